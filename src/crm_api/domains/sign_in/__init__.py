"""Signing in: people with a browser, by password, second factor or another provider; their sessions."""

from crm_api.domains.identity.default_roles import MANAGER, READER, REPRESENTATIVE
from crm_api.domains.sign_in.session import SESSIONS
from crm_api.kernel.domain import Domain

_OWN = (("sessions:*", "own"),)

DOMAIN = Domain(
    "sign_in",
    resources=(SESSIONS,),
    roles={MANAGER: _OWN, REPRESENTATIVE: _OWN, READER: _OWN},
)
