"""The authorization server: clients, what they were allowed, and the tokens that come of it."""

from crm_api.domains.identity.default_roles import MANAGER, READER, REPRESENTATIVE
from crm_api.domains.oauth import authorize, device, introspect, metadata, person, revoke, token
from crm_api.domains.oauth.client import OAUTH_CLIENTS
from crm_api.domains.oauth.grant import OAUTH_GRANTS
from crm_api.kernel.domain import Domain

_OWN = (("oauth_grants:*", "own"),)

DOMAIN = Domain(
    "oauth",
    resources=(OAUTH_CLIENTS, OAUTH_GRANTS),
    pages=(
        token.router,
        authorize.pages,
        device.router,
        device.pages,
        revoke.router,
        introspect.router,
        person.router,
        metadata.router,
    ),
    roles={MANAGER: _OWN, REPRESENTATIVE: _OWN, READER: _OWN},
)
