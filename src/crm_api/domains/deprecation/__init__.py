"""What of the contract will go, and who still uses it."""

from crm_api.domains.deprecation import show, use
from crm_api.kernel.domain import Domain

DOMAIN = Domain("deprecation", routers=(show.router,))

__all__ = ["DOMAIN", "use"]
