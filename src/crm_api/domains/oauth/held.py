"""A token as its client may know it: good or not, and what it is of."""

from typing import Any

from crm_api.domains.identity.tickets import read_ticket
from crm_api.domains.oauth.access_token import AccessTokens, tokens_of
from crm_api.domains.oauth.authenticate_client import Client
from crm_api.domains.oauth.family import scopes_in, secrets_of
from crm_api.kernel.context import Kernel


async def held_by(kernel: Kernel, client: Client, text: str) -> dict[str, Any] | None:
    """The claims of an access or refresh token of this client that is good; None for anything else."""
    tokens = tokens_of(kernel)
    if text.startswith(AccessTokens.prefix):
        claims = await tokens.claims(text)
        if claims is None or claims.client_id != client.client_id or await tokens.verify(text) is None:
            return None
        return {**claims.everything, "token_type": "Bearer"}
    ticket = read_ticket(text)
    if ticket is None or ticket.tenant_id != client.tenant_id:
        return None
    row = await secrets_of(kernel, ticket)
    if row is None or row["oauth_client_id"] != str(client.id) or not row["live"]:
        return None
    if row["refresh_hash"] is None or not ticket.fits(row["refresh_hash"]):
        return None
    return {
        "iss": tokens.issuer,
        "client_id": client.client_id,
        "sub": row["principal_id"],
        "scope": " ".join(sorted(scopes_in(row))),
        "exp": int(row["refresh_expires_at"].timestamp()),
        "tenant": str(client.tenant_id),
        "grant": str(ticket.id),
        "token_type": "refresh_token",
    }
