"""Signing in: people with a browser, by password, second factor or another provider; their sessions."""

from crm_api.domains.identity.default_roles import MANAGER, READER, REPRESENTATIVE
from crm_api.domains.sign_in import account, provider, reset, sign_in, spanish
from crm_api.domains.sign_in.identity_provider import IDENTITY_PROVIDERS
from crm_api.domains.sign_in.second_factor import SECOND_FACTORS
from crm_api.domains.sign_in.second_factor_rule import SECOND_FACTOR_RULES
from crm_api.domains.sign_in.session import SESSIONS
from crm_api.kernel.domain import Domain

_OWN = (("sessions:*", "own"), ("second_factors:read", "own"))

DOMAIN = Domain(
    "sign_in",
    resources=(SESSIONS, SECOND_FACTORS, SECOND_FACTOR_RULES, IDENTITY_PROVIDERS),
    pages=(sign_in.router, reset.router, provider.router, account.router),
    roles={MANAGER: _OWN, REPRESENTATIVE: _OWN, READER: _OWN},
)

__all__ = ["DOMAIN", "spanish"]
