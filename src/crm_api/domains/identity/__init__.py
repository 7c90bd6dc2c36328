"""Who acts: principals, teams, roles, keys, and what each may do."""

from crm_api.domains.identity import holders, me, simulate
from crm_api.domains.identity.api_key import API_KEYS
from crm_api.domains.identity.audit import AUDIT_LOG
from crm_api.domains.identity.default_roles import IDENTITY_ROLES
from crm_api.domains.identity.principal import PRINCIPALS, SERVICE_ACCOUNTS, USERS
from crm_api.domains.identity.role import ACCESS_DEFAULTS, ROLE_ASSIGNMENTS, ROLES
from crm_api.domains.identity.team import TEAM_MEMBERS, TEAMS
from crm_api.domains.identity.territory import TERRITORIES, TERRITORY_MEMBERS
from crm_api.kernel.domain import Domain

DOMAIN = Domain(
    "identity",
    resources=(
        PRINCIPALS,
        USERS,
        SERVICE_ACCOUNTS,
        TEAMS,
        TEAM_MEMBERS,
        TERRITORIES,
        TERRITORY_MEMBERS,
        ROLES,
        ROLE_ASSIGNMENTS,
        ACCESS_DEFAULTS,
        API_KEYS,
        AUDIT_LOG,
    ),
    routers=(me.router, holders.router, simulate.router),
    roles=IDENTITY_ROLES,
)
