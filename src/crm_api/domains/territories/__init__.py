"""Which territory records are in: rules that assign, by hand, and all of them anew."""

from crm_api.domains.territories.reassign import REASSIGN, UNDO
from crm_api.domains.territories.territory_rule import TERRITORY_RULES
from crm_api.kernel.collective import CollectiveDomain

DOMAIN = CollectiveDomain(
    "territories", resources=(TERRITORY_RULES,), jobs=(REASSIGN.job, UNDO.job), collective=(REASSIGN,)
)
