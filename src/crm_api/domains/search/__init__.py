"""Search: one question over all resources that declare searched text."""

from crm_api.domains.search import search
from crm_api.kernel.domain import Domain

DOMAIN = Domain("search", routers=(search.router,))
