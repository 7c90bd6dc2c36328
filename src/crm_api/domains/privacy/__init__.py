"""Privacy: what is known of a person is told, erased, kept no longer than needed, and its consents are recorded."""

from crm_api.domains.identity.default_roles import MANAGER, READER, REPRESENTATIVE
from crm_api.domains.privacy import consent_states, erasure_routes, person_export_routes
from crm_api.domains.privacy.consent import CONSENTS
from crm_api.domains.privacy.erase import ERASE
from crm_api.domains.privacy.erasure import ERASURES
from crm_api.domains.privacy.legal_hold import LEGAL_HOLDS
from crm_api.domains.privacy.person_export import EXPORT_PERSON, PERSON_EXPORTS
from crm_api.domains.privacy.retention_policy import RETENTION_POLICIES
from crm_api.kernel.domain import Domain

_CONSENTS = (("consents:read", "own"), ("consents:create", "own"))

DOMAIN = Domain(
    "privacy",
    resources=(CONSENTS, LEGAL_HOLDS, ERASURES, RETENTION_POLICIES, PERSON_EXPORTS),
    routers=(erasure_routes.router, person_export_routes.router, consent_states.router),
    jobs=(ERASE, EXPORT_PERSON),
    roles={MANAGER: _CONSENTS, REPRESENTATIVE: _CONSENTS, READER: (("consents:read", "own"),)},
)
"""Consents are open as their contact or lead is. The rest is for administrators, unless a role says otherwise."""
