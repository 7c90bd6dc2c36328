"""`POST /oauth/revoke` (RFC 7009): a client gives up a token, and with it the whole grant."""

from uuid import UUID

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from crm_api.domains.oauth.authenticate_client import authenticate_client
from crm_api.domains.oauth.contract import OAuthProblem, TokenForm
from crm_api.domains.oauth.grant import end
from crm_api.domains.oauth.held import held_by
from crm_api.domains.oauth.pace import pace
from crm_api.domains.oauth.requests import OAuthError, endpoint, form
from crm_api.kernel.spec_security import tells

router = APIRouter()


@tells(None, TokenForm, OAuthProblem, 400, 401, 413, 415, 429, example={"token": "…", "client_id": "AZ…"})
@endpoint
async def revoke_token(request: Request) -> Response:
    """Ends the grant that an access or refresh token is of; what is no token of the client is none to end."""
    given = await form(request)
    client = await authenticate_client(request, given)
    await pace(request, client)
    if (text := given.get("token")) is None:
        raise OAuthError("invalid_request", "token is missing.")
    kernel = request.scope["crm.kernel"]
    held = await held_by(kernel, client, text)
    if held is not None:
        await end(kernel, client.tenant_id, UUID(held["grant"]), request.scope["crm.request_id"])
    return Response(status_code=200, headers={"Cache-Control": "no-store"})


router.add_api_route(
    "/oauth/revoke", revoke_token, methods=["POST"], operation_id="revoke_token", summary="End a token and its grant"
)
