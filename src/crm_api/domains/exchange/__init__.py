"""Exchange of many records at once: imports and exports."""

from crm_api.domains.exchange import export_routes, import_routes
from crm_api.domains.exchange.applying import APPLY_ROWS
from crm_api.domains.exchange.export import EXPORT, EXPORTS
from crm_api.domains.exchange.imports import IMPORTS
from crm_api.domains.exchange.reverting import REVERT_ROWS
from crm_api.domains.exchange.validating import VALIDATE_ROWS
from crm_api.domains.identity.default_roles import MANAGER, READER, REPRESENTATIVE
from crm_api.kernel.domain import Domain

DOMAIN = Domain(
    "exchange",
    resources=(EXPORTS, IMPORTS),
    routers=(export_routes.router, import_routes.router),
    jobs=(EXPORT, VALIDATE_ROWS, APPLY_ROWS, REVERT_ROWS),
    roles={
        MANAGER: (("exports:*", "own"), ("imports:*", "own")),
        REPRESENTATIVE: (("exports:*", "own"), ("imports:*", "own")),
        READER: (("exports:*", "own"),),
    },
)
