"""The pages by which people sign in with a provider of their organisation: choice, departure, return."""

import base64
import hashlib
import hmac
import secrets
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import orjson
import sqlalchemy as sa
import structlog
from fastapi import APIRouter
from sqlalchemy.dialects.postgresql import insert as upsert
from starlette.requests import Request
from starlette.responses import Response

from crm_api import settings as process
from crm_api.domains.sign_in import openid
from crm_api.domains.sign_in.answering import go, readable
from crm_api.domains.sign_in.browser import cookie, own_path, page, set_cookie, unset_cookie
from crm_api.domains.sign_in.identity_provider import LINKS, PROVIDERS, PURPOSE
from crm_api.domains.sign_in.openid import Client, ProviderError
from crm_api.domains.sign_in.organisation import LONGEST, find_organisation, handle_of
from crm_api.domains.sign_in.person import Person, acting, find_by_email, find_by_id, note
from crm_api.domains.sign_in.sign_in import ORGANISATION, admit
from crm_api.domains.sign_in.steps import seal, unseal
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.ledger import NOW
from crm_api.kernel.sealing import SealError

log = structlog.get_logger("crm_api.sign_in")
router = APIRouter()
_STEP, _SECONDS = "crm_provider", 600
_PAGE = "sign_in/pages/providers.html"
_FAILED = "The provider did not say who you are, or you have no account here. Ask an administrator."
_ID = sa.bindparam("id", type_=sa.Uuid())
_SUBJECT = sa.bindparam("subject", type_=sa.Text())
_ACTIVE = (PROVIDERS.c.tenant_id == TENANT, PROVIDERS.c.is_active, PROVIDERS.c.deleted_at.is_(None))
_LIST = Statement(
    sa.select(sa.cast(PROVIDERS.c.id, sa.Text()), PROVIDERS.c.name).where(*_ACTIVE).order_by(PROVIDERS.c.name_key)
)
_FIND = Statement(
    sa.select(*(PROVIDERS.c[name] for name in ("issuer", "client_id", "email_domains", "sealed_secret"))).where(
        *_ACTIVE, PROVIDERS.c.id == _ID
    )
)
_LINKED = Statement(
    sa.select(sa.cast(LINKS.c.principal_id, sa.Text())).where(
        LINKS.c.tenant_id == TENANT, LINKS.c.provider_id == _ID, LINKS.c.subject == _SUBJECT
    )
)
_LINK = Statement(
    upsert(LINKS)
    .values(
        tenant_id=TENANT,
        provider_id=_ID,
        subject=_SUBJECT,
        principal_id=sa.bindparam("principal", type_=sa.Uuid()),
        created_at=NOW,
    )
    .on_conflict_do_nothing()
    .returning(sa.literal_column("1"))
)


@router.get("/sign-in/providers")
@readable
async def choose(request: Request) -> Response:
    """The providers of an organisation; asks which organisation, unless that is known."""
    text = (request.query_params.get("organisation") or cookie(request, ORGANISATION) or "")[:LONGEST]
    return await _choice(request, text, own_path(request.query_params.get("return_to")) or "/account")


async def _choice(request: Request, organisation: str, target: str, problem: str | None = None) -> Response:
    kernel = request.scope["crm.kernel"]
    tenant_id = await find_organisation(kernel, organisation) if organisation else None
    rows = [] if tenant_id is None else await kernel.database.read(tenant_id, _LIST, {})
    asked = {"organisation": organisation, "return_to": target}
    values: dict[str, Any] = {
        "providers": [
            {"name": row["name"], "address": f"/sign-in/with?{urlencode({'provider': row['id'], **asked})}"}
            for row in rows
        ],
        "problem": problem or ("Nothing is set up under this name." if organisation and not rows else None),
        "organisation": organisation,
        "return_to": target,
    }
    return page(request, "Sign in with another provider", _PAGE, status=422 if problem else 200, **values)


@router.get("/sign-in/with")
@readable
async def leave(request: Request) -> Response:
    """Sends the browser to a provider, with a state, nonce and PKCE challenge that only this browser can answer for."""
    given, kernel = request.query_params, request.scope["crm.kernel"]
    organisation, target = given.get("organisation", "")[:LONGEST], own_path(given.get("return_to")) or "/account"
    tenant_id, id_ = await find_organisation(kernel, organisation), _uuid(given.get("provider", ""))
    if tenant_id is None or id_ is None or (found := await _client(request, tenant_id, id_)) is None:
        return await _choice(request, organisation, target, _FAILED)
    try:
        metadata = await openid.discover(found[0].issuer)
    except ProviderError as error:
        return await _broken(request, organisation, target, error)
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    digest = hashlib.sha256(verifier.encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    asked = {"state": state, "nonce": nonce, "code_challenge": challenge}
    step = {"provider": str(id_), "state": state, "nonce": nonce, "verifier": verifier, "target": target}
    response = go(openid.authorization(metadata, found[0], **asked))
    sealed = seal(kernel, tenant_id, "provider", _SECONDS, organisation=organisation, **step)
    set_cookie(response, _STEP, sealed, _SECONDS)
    return response


@router.get("/sign-in/callback")
@readable
async def arrive(request: Request) -> Response:
    """Takes the provider's word, if it is an answer to what this browser asked."""
    given, kernel = request.query_params, request.scope["crm.kernel"]
    step = unseal(kernel, "provider", cookie(request, _STEP))
    if step is None or not hmac.compare_digest(given.get("state", "").encode(), step[1]["state"].encode()):
        return await _choice(request, "", "/account", _FAILED)
    tenant_id, kept = step
    found = await _client(request, tenant_id, UUID(kept["provider"]))
    try:
        if found is None or "code" not in given or given.get("iss", found[0].issuer) != found[0].issuer:
            raise ProviderError(f"The provider answers {given.get('error', 'without a code')[:40]!r}.")
        client, domains = found
        metadata = await openid.discover(client.issuer)
        if metadata.tells_issuer and "iss" not in given:
            raise ProviderError("The provider does not say that it answers, which it always does.")
        claims = await openid.claims(metadata, client, given["code"][:2_000], kept["verifier"], kept["nonce"])
        person = await _known(request, tenant_id, UUID(kept["provider"]), domains, claims)
    except ProviderError as error:
        return await _broken(request, kept["organisation"], kept["target"], error)
    response = await admit(request, person, ("ext",), kept["target"], handle_of(kept["organisation"]))
    unset_cookie(response, _STEP)
    return response


async def _known(
    request: Request, tenant_id: UUID, provider_id: UUID, domains: list[str], claims: dict[str, Any]
) -> Person:
    """The person of a subject: as at their first sign-in, which goes by the e-mail that the provider has verified."""
    kernel = request.scope["crm.kernel"]
    subject, email = claims["sub"], claims.get("email")
    values = {"id": provider_id, "subject": subject}
    person = None
    if rows := await kernel.database.read(tenant_id, _LINKED, dict(values)):
        person = await find_by_id(kernel, tenant_id, UUID(rows[0]["principal_id"]))
    elif isinstance(email, str) and claims.get("email_verified") is True:
        if email.isprintable() and email.rpartition("@")[2].lower() in domains:
            person = await find_by_email(kernel, tenant_id, email)
        if person is not None:
            ctx = acting(request, tenant_id, person.id)
            if not await ctx.fetch(_LINK, {**values, "principal": person.id, "now": ctx.now}):
                raise ProviderError("The account is another subject's.")
            await note(ctx, person, "link_provider", provider_id=str(provider_id))
    if person is None:
        raise ProviderError("No account has this address.")
    return person


async def _client(request: Request, tenant_id: UUID, id_: UUID) -> tuple[Client, list[str]] | None:
    """What we are to a provider, and the domains that it speaks for."""
    kernel = request.scope["crm.kernel"]
    rows = await kernel.database.read(tenant_id, _FIND, {"id": id_})
    if not rows:
        return None
    row, settings = rows[0], process.load_settings()
    base = settings.public_url
    if base is None and settings.environment == "development":
        base = f"http://{request.headers.get('host', 'localhost')}"
    if base is None:
        log.error("provider_unusable", reason="CRM_PUBLIC_URL is not set")
        return None
    secret = None
    if (sealed := row["sealed_secret"]) is not None:
        try:
            secret = kernel.sealer.unseal(tenant_id, PURPOSE, sealed).decode()
        except SealError as error:
            log.error("provider_unusable", reason=str(error))  # noqa: TRY400 - no traceback is needed
            return None
    client = Client(row["issuer"], row["client_id"], secret, f"{base}/sign-in/callback")
    return client, orjson.loads(row["email_domains"])


async def _broken(request: Request, organisation: str, target: str, error: ProviderError) -> Response:
    """Says that it did not work; why is for the operator."""
    log.warning("provider_refused", reason=str(error), request_id=request.scope["crm.request_id"])
    response = await _choice(request, organisation, target, _FAILED)
    unset_cookie(response, _STEP)
    return response


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
