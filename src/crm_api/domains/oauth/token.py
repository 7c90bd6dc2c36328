"""`POST /oauth/token`: from a code, a refresh token, a device code or the client itself to an access token."""

import base64
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any
from uuid import UUID

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from crm_api.domains.identity.tickets import Ticket
from crm_api.domains.oauth.access_token import SECONDS, tokens_of
from crm_api.domains.oauth.authenticate_client import Client, authenticate_client
from crm_api.domains.oauth.client import CODE, CREDENTIALS, DEVICE, REFRESH
from crm_api.domains.oauth.contract import OAuthProblem, TokenRequest, Tokens
from crm_api.domains.oauth.device import take_device_code
from crm_api.domains.oauth.family import scopes_in, scopes_of_refresh, standing, take_code, take_refresh
from crm_api.domains.oauth.grant import end
from crm_api.domains.oauth.pace import pace
from crm_api.domains.oauth.person import identity_claims, person
from crm_api.domains.oauth.requests import OAuthError, answer, endpoint, form, scopes_of
from crm_api.domains.sign_in.person import acting
from crm_api.kernel.context import Kernel
from crm_api.kernel.database import Row
from crm_api.kernel.spec_security import tells

router = APIRouter()
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


@tells(
    Tokens,
    TokenRequest,
    OAuthProblem,
    400,
    401,
    413,
    415,
    429,
    example={"grant_type": "client_credentials", "client_id": "AZ…", "client_secret": "crm_cs_…"},
)
@endpoint
async def token(request: Request) -> Response:
    """Gives an access token, and a refresh token where there is one, by any grant of the client (RFC 6749, 3.2)."""
    given = await form(request)
    client = await authenticate_client(request, given)
    grant_type = given.get("grant_type")
    await pace(request, client, waits=grant_type == DEVICE)
    if grant_type is None:
        raise OAuthError("invalid_request", "grant_type is missing.")
    work = _GRANTS.get(grant_type)
    if work is None:
        raise OAuthError("unsupported_grant_type", "There is no such grant type here.")
    client.may(grant_type)
    kernel: Kernel = request.scope["crm.kernel"]
    if given.get("resource", tokens_of(kernel).issuer) != tokens_of(kernel).issuer:
        raise OAuthError("invalid_target", "Tokens are for this API alone (RFC 8707).")
    return await work(request, kernel, client, given)


async def _code(request: Request, kernel: Kernel, client: Client, given: dict[str, str]) -> Response:
    text, verifier = given.get("code"), given.get("code_verifier", "")
    if text is None or not _VERIFIER.fullmatch(verifier):
        raise OAuthError("invalid_request", "code and code_verifier are needed.")
    request_id = request.scope["crm.request_id"]
    row, refresh = await take_code(kernel, text, request_id)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    proved = hmac.compare_digest(challenge, str(row["code_challenge"]))
    own = UUID(row["oauth_client_id"]) == client.id and given.get("redirect_uri") == row["redirect_uri"]
    if not proved or not own:  # somebody has a code that is not his
        await end(kernel, refresh.tenant_id, UUID(row["id"]), request_id)
        raise OAuthError("invalid_grant", "The code is wrong, expired, used, or not for this client and address.")
    return await reply(kernel, client, row, refresh if REFRESH in client.grant_types else None)


async def _refresh(request: Request, kernel: Kernel, client: Client, given: dict[str, str]) -> Response:
    if (text := given.get("refresh_token")) is None:
        raise OAuthError("invalid_request", "refresh_token is missing.")
    if "scope" in given and (most := await scopes_of_refresh(kernel, client, text)) is not None:
        _narrowed(most, given)  # before the token is used up
    row, following = await take_refresh(kernel, client, text, request.scope["crm.request_id"])
    return await reply(kernel, client, row, following, given)


async def _device(request: Request, kernel: Kernel, client: Client, given: dict[str, str]) -> Response:
    if (text := given.get("device_code")) is None:
        raise OAuthError("invalid_request", "device_code is missing.")
    del request
    row, refresh = await take_device_code(kernel, client, text)
    return await reply(kernel, client, row, refresh if REFRESH in client.grant_types else None)


async def _credentials(request: Request, kernel: Kernel, client: Client, given: dict[str, str]) -> Response:
    if client.public or client.service_account_id is None:
        raise OAuthError("unauthorized_client", "The client has no service account to act as.")
    scopes = _narrowed(frozenset(scope for scope in client.scopes if ":" in scope), given)
    ctx = acting(request, client.tenant_id, client.service_account_id, "oauth")
    grant_id = await standing(ctx, client)
    text = await tokens_of(kernel).issue(
        client.tenant_id, grant_id, client.service_account_id, client.client_id, scopes
    )
    return answer(_body(text, scopes))


def _narrowed(most: Collection[str], given: Mapping[str, str]) -> frozenset[str]:
    """The scopes that were asked for, all of `most` by default."""
    wanted = scopes_of(given.get("scope")) or frozenset(most)
    if not wanted or not wanted.issubset(most):
        raise OAuthError("invalid_scope", "A scope is unknown, or more than was granted.")
    return wanted


_GRANTS: dict[str, Callable[[Request, Kernel, Client, dict[str, str]], Awaitable[Response]]] = {
    CODE: _code,
    REFRESH: _refresh,
    CREDENTIALS: _credentials,
    DEVICE: _device,
}


def _body(text: str, scopes: Collection[str]) -> dict[str, Any]:
    return {"access_token": text, "token_type": "Bearer", "expires_in": SECONDS, "scope": " ".join(sorted(scopes))}


async def reply(
    kernel: Kernel, client: Client, row: Row, refresh: Ticket | None, given: Mapping[str, str] = MappingProxyType({})
) -> Response:
    """The tokens of a person's grant, for as much of it as the client may still have, or for the `scope` of a form."""
    tokens, scopes = tokens_of(kernel), _narrowed(scopes_in(row) & client.scopes, given)
    subject, grant_id = UUID(row["principal_id"]), UUID(row["id"])
    signed_in = row["authenticated_at"]
    authentication = {
        "auth_time": None if signed_in is None else int(signed_in.timestamp()),
        "amr": orjson.loads(row["methods"]) or None,
        "sid": row["signed_in_by"],
    }
    text = await tokens.issue(client.tenant_id, grant_id, subject, client.client_id, scopes, **authentication)
    body = _body(text, scopes)
    if refresh is not None:
        body["refresh_token"] = refresh.text
    if "openid" in scopes:
        who = await person(kernel, client.tenant_id, subject)
        half = hashlib.sha256(text.encode()).digest()[:16]
        claims = {
            "sub": str(subject),
            "aud": client.client_id,
            "nonce": row["nonce"],
            "at_hash": base64.urlsafe_b64encode(half).decode().rstrip("="),
            **authentication,
            **identity_claims(who, scopes),
        }
        known = {name: value for name, value in claims.items() if value is not None}
        body["id_token"] = await tokens.sign(known, "JWT")
    return answer(body)


router.add_api_route(
    "/oauth/token", token, methods=["POST"], operation_id="create_token", summary="Give tokens to a client"
)
