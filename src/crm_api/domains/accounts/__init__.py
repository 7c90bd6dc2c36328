"""Accounts and who works on them."""

from crm_api.domains.accounts.account import ACCOUNTS
from crm_api.domains.accounts.relation import ACCOUNT_RELATIONS
from crm_api.domains.accounts.relation_type import ACCOUNT_RELATION_TYPES
from crm_api.domains.accounts.team_member import ACCOUNT_TEAM_MEMBERS
from crm_api.domains.identity.default_roles import sales_roles
from crm_api.kernel.domain import Domain

DOMAIN = Domain(
    "accounts",
    resources=(ACCOUNTS, ACCOUNT_TEAM_MEMBERS, ACCOUNT_RELATION_TYPES, ACCOUNT_RELATIONS),
    roles=sales_roles("accounts", "account_team_members", "account_relations"),
)
