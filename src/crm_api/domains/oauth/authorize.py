"""`/oauth/authorize`: a person says whether a client may act for them (RFC 6749, 4.1; RFC 7636, 8707, 9207)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import SplitResult, urlencode, urlsplit

import sqlalchemy as sa
from fastapi import APIRouter
from sqlalchemy.dialects.postgresql import JSONB
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from crm_api.domains.oauth.access_token import tokens_of
from crm_api.domains.oauth.authenticate_client import Client, find_client
from crm_api.domains.oauth.client import CODE, redirects_to
from crm_api.domains.oauth.family import Grant, give
from crm_api.domains.oauth.grant import OAuthGrant
from crm_api.domains.oauth.person import person
from crm_api.domains.oauth.requests import OAuthError, pairs, scopes_of
from crm_api.domains.oauth.scopes import words
from crm_api.domains.sign_in.answering import readable
from crm_api.domains.sign_in.browser import BrowserSession, page, read_form, sign_in_address, signed_in
from crm_api.domains.sign_in.person import acting
from crm_api.domains.sign_in.words import add_spanish
from crm_api.kernel.context import Kernel
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.record import table_of

pages = APIRouter()
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_PROMPTS = frozenset({"none", "login", "consent", "select_account"})
add_spanish(
    {
        "Allow access": "Permitir el acceso",
        "{client} would like to:": "{client} quiere:",
        "You are signed in as {name}.": "Ha iniciado sesión como {name}.",
        "Afterwards you go on to {place}.": "Después irá a {place}.",
        "Allow": "Permitir",
        "Refuse": "Rechazar",
        "Something is wrong with this request": "Hay un problema con esta solicitud",
        "The application that sent you here made a mistake. Nothing was allowed.": (
            "La aplicación que le envió aquí cometió un error. No se ha permitido nada."
        ),
    }
)
_GRANTS = table_of(OAuthGrant)
_REMEMBERED = Statement(
    sa.select(sa.literal_column("1"))
    .where(
        _GRANTS.c.tenant_id == TENANT,
        _GRANTS.c.principal_id == sa.bindparam("principal", type_=sa.Uuid()),
        _GRANTS.c.oauth_client_id == sa.bindparam("client", type_=sa.Uuid()),
        _GRANTS.c.kind == sa.literal(CODE, sa.Text()),
        _GRANTS.c.code_used_at.is_not(None),
        _GRANTS.c.revoked_at.is_(None),
        _GRANTS.c.redirect_uri == sa.bindparam("redirect_uri", type_=sa.Text()),
        _GRANTS.c.scopes.op("@>")(sa.bindparam("scopes", type_=JSONB())),
    )
    .limit(sa.literal_column("1"))
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A valid request of a client."""

    client: Client
    redirect_uri: str
    state: str | None
    scopes: frozenset[str]
    challenge: str
    nonce: str | None
    prompts: frozenset[str]
    max_age: int | None
    login_hint: str | None


@readable
async def authorize(request: Request) -> Response:
    """Asks the person, unless they allowed as much before, and sends them back with a code or an error."""
    kernel: Kernel = request.scope["crm.kernel"]
    issuer = tokens_of(kernel).issuer
    client, redirect_uri, given = None, None, {}
    try:
        given = pairs(request.url.query)
        client = await find_client(kernel, given.get("client_id", ""))
        redirect_uri = given.get("redirect_uri", "")
        if client is None or not any(redirects_to(each, redirect_uri) for each in client.redirect_uris):
            raise OAuthError("invalid_request", "The client is unknown, or this is none of its redirect URIs.")
    except OAuthError as error:
        return _mistake(request, error)
    try:
        return await _asked(request, _read(client, redirect_uri, given, issuer), given)
    except OAuthError as error:
        told = {"error": error.error, "error_description": error.description, "state": given.get("state")}
        return _back(redirect_uri, {**told, "iss": issuer})


def _read(client: Client, redirect_uri: str, given: Mapping[str, str], issuer: str) -> Asked:
    """The request, or why it is refused."""
    for name in ("request", "request_uri"):
        if name in given:
            raise OAuthError(f"{name}_not_supported", "Send the parameters one by one.")
    if given.get("response_type") != "code":
        error = "unsupported_response_type" if "response_type" in given else "invalid_request"
        raise OAuthError(error, "response_type is code.")
    if given.get("response_mode", "query") != "query":
        raise OAuthError("invalid_request", "response_mode is query.")
    client.may(CODE)
    if given.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(given.get("code_challenge", "")):
        raise OAuthError("invalid_request", "PKCE with code_challenge_method S256 is needed.")
    scopes = scopes_of(given.get("scope")) or client.scopes
    if not scopes.issubset(client.scopes):
        raise OAuthError("invalid_scope", "A scope is unknown, or not one of the client's.")
    if given.get("resource", issuer) != issuer:
        raise OAuthError("invalid_target", "Tokens are for this API alone.")
    prompts = scopes_of(given.get("prompt"))
    if not prompts.issubset(_PROMPTS) or ("none" in prompts and len(prompts) > 1):
        raise OAuthError("invalid_request", "prompt is none, or login, consent or both.")
    max_age = given.get("max_age")
    if max_age is not None and not (max_age.isascii() and max_age.isdigit() and len(max_age) < 10):
        raise OAuthError("invalid_request", "max_age is a number of seconds.")
    if any(len(given.get(name, "")) > 2000 for name in ("state", "nonce", "login_hint")):
        raise OAuthError("invalid_request", "state, nonce and login_hint have at most 2000 characters.")
    return Asked(
        client,
        redirect_uri,
        given.get("state"),
        scopes,
        given["code_challenge"],
        given.get("nonce"),
        prompts,
        None if max_age is None else int(max_age),
        given.get("login_hint"),
    )


async def _asked(request: Request, asked: Asked, given: Mapping[str, str]) -> Response:
    session = await signed_in(request)
    stale = session is not None and (
        bool(asked.prompts & {"login", "select_account"}) or not _recent(session, asked.max_age)
    )
    if session is None or session.tenant_id != asked.client.tenant_id or stale:
        if "none" in asked.prompts:
            raise OAuthError("login_required", "Nobody is signed in, or not recently enough.")
        return _sign_in(asked, given, again=session is not None)
    kernel: Kernel = request.scope["crm.kernel"]
    if request.method == "POST":
        fields = await read_form(request, session)
        if fields.get("decision") != "allow":
            raise OAuthError("access_denied", "The person refused.")
        return await _allow(request, asked, session)
    if "consent" not in asked.prompts and await _remembered(kernel, asked, session):
        return await _allow(request, asked, session)
    if "none" in asked.prompts:
        raise OAuthError("consent_required", "The person was not asked yet.")
    who = await person(kernel, session.tenant_id, session.principal_id)
    place = urlsplit(asked.redirect_uri)
    return page(
        request,
        "Allow access",
        "oauth/pages/consent.html",
        session=session,
        language=who["language"],
        also_to=(_source(place),),
        client=asked.client.name,
        name=who["email"] or who["name"],
        place=place.netloc,
        scopes=[words(scope) for scope in sorted(asked.scopes)],
        action=f"/oauth/authorize?{urlencode(given)}",
    )


def _source(place: SplitResult) -> str:
    """An address as a Content-Security-Policy names it: it has no way to write one of IPv6, so that is any of http."""
    return f"{place.scheme}:" if place.hostname == "::1" else f"{place.scheme}://{place.netloc}"


def _recent(session: BrowserSession, max_age: int | None) -> bool:
    return max_age is None or session.authenticated_at > datetime.now(UTC) - timedelta(seconds=max_age)


def _sign_in(asked: Asked, given: Mapping[str, str], *, again: bool) -> Response:
    """To the page for it and back here; what asked for it is left out then, and `auth_time` tells the client."""
    rest = {name: value for name, value in given.items() if name != "prompt"}
    if "consent" in asked.prompts:
        rest["prompt"] = "consent"
    if asked.max_age == 0:
        del rest["max_age"]
    tenant = str(asked.client.tenant_id)
    address = sign_in_address(
        f"/oauth/authorize?{urlencode(rest)}", login_hint=asked.login_hint, tenant=tenant, again=again
    )
    return RedirectResponse(address, 303, {"Cache-Control": "no-store"})


async def _remembered(kernel: Kernel, asked: Asked, session: BrowserSession) -> bool:
    """Whether the person allowed as much before, at this address: those of a client may be changed by others.

    On the own machine a public client may be any (RFC 8252, 8.6).
    """
    if asked.client.public and asked.redirect_uri.startswith("http:"):
        return False
    values = {"principal": session.principal_id, "client": asked.client.id, "scopes": sorted(asked.scopes)}
    values["redirect_uri"] = asked.redirect_uri
    return bool(await kernel.database.read(session.tenant_id, _REMEMBERED, values))


async def _allow(request: Request, asked: Asked, session: BrowserSession) -> Response:
    kernel: Kernel = request.scope["crm.kernel"]
    offline = "offline_access" in asked.scopes
    grant = Grant(
        asked.client,
        session.principal_id,
        CODE,
        asked.scopes,
        session_id=None if offline else session.session_id,
        signed_in_by=session.session_id,
        authenticated_at=session.authenticated_at,
        methods=session.methods,
        nonce=asked.nonce,
        redirect_uri=asked.redirect_uri,
        code_challenge=asked.challenge,
    )
    ctx = acting(request, session.tenant_id, session.principal_id, "oauth")
    code = await give(ctx, grant, with_code=True)
    assert code is not None  # noqa: S101 - it was asked for
    return _back(asked.redirect_uri, {"code": code.text, "state": asked.state, "iss": tokens_of(kernel).issuer})


def _back(redirect_uri: str, told: Mapping[str, str | None]) -> Response:
    """Sends the browser back to the client."""
    query = urlencode({name: value for name, value in told.items() if value is not None})
    joined = "&" if urlsplit(redirect_uri).query else "?"
    return RedirectResponse(f"{redirect_uri.rstrip('?')}{joined}{query}", 303, {"Cache-Control": "no-store"})


def _mistake(request: Request, error: OAuthError) -> Response:
    """The page for what must not be told to an address that is not the client's."""
    return page(
        request,
        "Something is wrong with this request",
        "oauth/pages/mistake.html",
        status=400,
        code=error.error,
        detail=error.description,
    )


pages.add_api_route("/oauth/authorize", authorize, methods=["GET", "POST"])
