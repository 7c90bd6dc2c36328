"""How often a client may ask the endpoints for clients: as often as a credential asks the API."""

from uuid import uuid5

from starlette.requests import Request

from crm_api.domains.identity.addresses import crowd
from crm_api.domains.oauth.authenticate_client import Client
from crm_api.domains.oauth.requests import OAuthError
from crm_api.kernel.problems import RATE_LIMITED, Problem

INTROSPECTIONS = 10
"""Questions about tokens for each request that a client may make otherwise: an API asks with each call that it gets."""


async def pace(request: Request, client: Client, *, waits: bool = False) -> None:
    """Counts a request of a client that proved who it is. Of a public one, which anybody can name, each address counts.

    Raises:
        Problem: 429 beyond the rate.
        OAuthError: 429 `slow_down` (RFC 8628, 3.5) for a device that `waits`.
    """
    key = uuid5(client.id, crowd(request.scope["crm.address"])) if client.public else client.id
    limiter = request.scope["crm.kernel"].limiter
    try:
        await limiter.pace(client.tenant_id, key, client.rate, 1)
    except Problem as problem:
        if not waits or problem.kind is not RATE_LIMITED:
            raise
        raise OAuthError("slow_down", problem.detail, 429, problem.headers) from problem


async def pace_questions(request: Request, client: Client) -> None:
    """Counts a question about a token, by itself; 429 beyond the rate of those."""
    key, limiter = uuid5(client.id, "introspection"), request.scope["crm.kernel"].limiter
    await limiter.pace(client.tenant_id, key, client.rate, INTROSPECTIONS)
