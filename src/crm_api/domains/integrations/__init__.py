"""What other systems need to work with this one: who they are, which fields are theirs, and the change feed."""

from crm_api.domains.integrations import changes
from crm_api.domains.integrations.source import SOURCES
from crm_api.kernel.resource import Domain

DOMAIN = Domain("integrations", resources=(SOURCES,), routers=(changes.router,))
