"""How much a caller may ask: rates by credential and tenant, requests at once, and the fixed limits."""

from crm_api.domains.limits import capabilities, show, usage
from crm_api.kernel.domain import Domain

DOMAIN = Domain("limits", routers=(show.router, capabilities.router))
"""The table of `usage` is read and written by functions of the owner alone."""

__all__ = ["DOMAIN", "usage"]
