"""Exchange of many records at once: exports."""

from crm_api.domains.exchange import routes
from crm_api.domains.exchange.export import EXPORT, EXPORTS
from crm_api.domains.identity.default_roles import MANAGER, READER, REPRESENTATIVE
from crm_api.kernel.resource import Domain

DOMAIN = Domain(
    "exchange",
    resources=(EXPORTS,),
    routers=(routes.router,),
    jobs=(EXPORT,),
    roles=dict.fromkeys((MANAGER, REPRESENTATIVE, READER), (("exports:*", "own"),)),
)
