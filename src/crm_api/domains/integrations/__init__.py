"""Integrations: the change feed."""

from crm_api.domains.integrations import changes
from crm_api.kernel.resource import Domain

DOMAIN = Domain("integrations", routers=(changes.router,))
