"""`POST /oauth/introspect` (RFC 7662): a client asks what a token of its own is good for."""

from datetime import UTC, datetime

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from crm_api.domains.oauth.authenticate_client import authenticate_client
from crm_api.domains.oauth.contract import Introspection, OAuthProblem, TokenForm
from crm_api.domains.oauth.held import held_by
from crm_api.domains.oauth.pace import pace_questions
from crm_api.domains.oauth.requests import OAuthError, answer, endpoint, form
from crm_api.kernel.spec_security import tells

router = APIRouter()


@tells(
    Introspection,
    TokenForm,
    OAuthProblem,
    400,
    401,
    413,
    415,
    429,
    example={"token": "…", "client_id": "AZ…", "client_secret": "crm_cs_…"},
)
@endpoint
async def introspect(request: Request) -> Response:
    """`active`, and what the token says; of a token of another client no more than that it is not active."""
    given = await form(request)
    client = await authenticate_client(request, given, secret=True)
    await pace_questions(request, client)
    if (text := given.get("token")) is None:
        raise OAuthError("invalid_request", "token is missing.")
    held = await held_by(request.scope["crm.kernel"], client, text)
    if held is None or held["exp"] <= datetime.now(UTC).timestamp():
        return answer({"active": False})
    return answer({"active": True, **held})


router.add_api_route(
    "/oauth/introspect",
    introspect,
    methods=["POST"],
    operation_id="introspect_token",
    summary="Ask whether a token is good",
)
