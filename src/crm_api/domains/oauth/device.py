"""Devices without a browser (RFC 8628): a code to type in elsewhere, and the waiting for it."""

import secrets
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from fastapi import APIRouter
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from crm_api.domains.identity.credentials import hashes
from crm_api.domains.identity.tickets import Ticket, read_ticket
from crm_api.domains.oauth.access_token import tokens_of
from crm_api.domains.oauth.authenticate_client import Client, authenticate_client, count_failure, find_client
from crm_api.domains.oauth.client import DEVICE, public_id
from crm_api.domains.oauth.contract import DeviceAuthorization, DeviceRequest, OAuthProblem
from crm_api.domains.oauth.family import Grant, first_refresh, give
from crm_api.domains.oauth.pace import pace
from crm_api.domains.oauth.requests import OAuthError, answer, endpoint, form, scopes_of
from crm_api.domains.oauth.scopes import words
from crm_api.domains.sign_in import attempts
from crm_api.domains.sign_in.answering import readable
from crm_api.domains.sign_in.browser import BrowserSession, page, read_form, sign_in_address, signed_in
from crm_api.domains.sign_in.person import acting
from crm_api.domains.sign_in.words import add_spanish
from crm_api.kernel.context import Context, Kernel, new_id
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.ledger import NOW
from crm_api.kernel.record import Record, among, reference, table_of
from crm_api.kernel.spec_security import tells
from crm_api.kernel.unit_of_work import transact

SECONDS = 600
INTERVAL = 5
"""Seconds between two questions of a device, at least."""
LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""Without vowels, so that no words come of them (RFC 8628, 6.1)."""
GUESSES = attempts.Limit("device_code", free=10, first=60, longest=900, forget=timedelta(hours=1))
"""Wrong codes of a person."""

router = APIRouter()
add_spanish(
    {
        "Connect a device": "Conectar un dispositivo",
        "Code shown on the device": "Código que muestra el dispositivo",
        "Continue": "Continuar",
        "There is no such code, or it has expired.": "No existe ese código o ha caducado.",
        "Too many wrong codes. Wait a few minutes.": "Demasiados códigos incorrectos. Espere unos minutos.",
        "The device is connected. You can close this page.": (
            "El dispositivo está conectado. Puede cerrar esta página."
        ),
        "The device was refused. You can close this page.": "Se rechazó el dispositivo. Puede cerrar esta página.",
        "Only go on if you began this yourself, on a device in front of you.": (
            "Continúe solo si usted mismo empezó esto, en un dispositivo que tiene delante."
        ),
    }
)


class DeviceCode(Record):
    """A device that waits for somebody to allow it."""

    __tablename__ = "oauth_device_codes"
    __table_args__ = (
        reference("oauth_client_id", "oauth_clients"),
        reference("grant_id", "oauth_grants"),
        sa.UniqueConstraint("tenant_id", "user_code", name="uq_oauth_device_codes_user_code"),
        sa.Index("ix_oauth_device_codes_oauth_client_id", "tenant_id", "oauth_client_id"),
        sa.Index("ix_oauth_device_codes_grant_id", "tenant_id", "grant_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    oauth_client_id: Mapped[UUID]
    user_code: Mapped[str]
    secret_hash: Mapped[bytes]
    scopes: Mapped[list[Any]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    asked_at: Mapped[datetime | None]
    decided_at: Mapped[datetime | None]
    grant_id: Mapped[UUID | None]
    redeemed_at: Mapped[datetime | None]


_CODES = table_of(DeviceCode)
_ID = sa.bindparam("id", type_=sa.Uuid())
_INSERT = Statement(
    sa.insert(_CODES).values(
        tenant_id=TENANT,
        created_at=NOW,
        **{
            name: sa.bindparam(name, type_=_CODES.c[name].type)
            for name in ("id", "oauth_client_id", "user_code", "secret_hash", "scopes", "expires_at")
        },
    )
)
_OF_USER = Statement(
    sa.select(sa.cast(_CODES.c.id, sa.Text()), sa.cast(_CODES.c.oauth_client_id, sa.Text()), _CODES.c.scopes).where(
        _CODES.c.tenant_id == TENANT,
        _CODES.c.user_code == sa.bindparam("user_code", type_=sa.Text()),
        _CODES.c.decided_at.is_(None),
        _CODES.c.expires_at > NOW,
    )
)
_DECIDE = Statement(
    sa.update(_CODES)
    .where(_CODES.c.tenant_id == TENANT, _CODES.c.id == _ID, _CODES.c.decided_at.is_(None), _CODES.c.expires_at > NOW)
    .values(decided_at=NOW, grant_id=sa.bindparam("grant", type_=sa.Uuid()))
    .returning(_CODES.c.id)
)
_ASK = Statement(
    sa.update(_CODES)
    .where(
        _CODES.c.tenant_id == TENANT,
        _CODES.c.id == _ID,
        _CODES.c.oauth_client_id == sa.bindparam("client", type_=sa.Uuid()),
        among(_CODES.c.secret_hash, sa.bindparam("hashes", type_=ARRAY(sa.LargeBinary()))),
        _CODES.c.redeemed_at.is_(None),
    )
    .values(
        asked_at=NOW,
        redeemed_at=sa.case((sa.and_(_CODES.c.grant_id.is_not(None), _CODES.c.expires_at > NOW), NOW)),
    )
    .returning(
        _CODES.c.expires_at,
        _CODES.c.decided_at,
        sa.cast(_CODES.c.grant_id, sa.Text()).label("grant_id"),
        sa.literal_column("old.asked_at").label("asked_before"),
    )
)
"""Notes that a device asks, and with it that it gets what it waits for; the second of two at once finds it gone."""


@tells(
    DeviceAuthorization,
    DeviceRequest,
    OAuthProblem,
    400,
    401,
    413,
    415,
    429,
    example={"client_id": "AZ…", "scope": "accounts:read"},
)
@endpoint
async def start(request: Request) -> Response:
    """Begins (RFC 8628, 3.1): a code for the device, and one for the person."""
    given = await form(request)
    client = await authenticate_client(request, given)
    await pace(request, client)
    client.may(DEVICE)
    if client.public:  # anybody can say that they are this client, and each time leaves a row
        await count_failure(request)
    scopes = scopes_of(given.get("scope")) or client.scopes
    if not scopes.issubset(client.scopes):
        raise OAuthError("invalid_scope", "A scope is unknown, or not one of the client's.")
    kernel: Kernel = request.scope["crm.kernel"]
    issuer = tokens_of(kernel).issuer
    now = datetime.now(UTC)
    ticket = Ticket(client.tenant_id, new_id())
    letters = "".join(secrets.choice(LETTERS) for _ in range(8))
    await kernel.database.fetch(
        client.tenant_id,
        _INSERT,
        {
            "id": ticket.id,
            "oauth_client_id": client.id,
            "user_code": letters,
            "secret_hash": ticket.hash,
            "scopes": sorted(scopes),
            "expires_at": now + timedelta(seconds=SECONDS),
            "now": now,
        },
    )
    shown = f"{letters[:4]}-{letters[4:]}"
    return answer(
        {
            "device_code": ticket.text,
            "user_code": shown,
            "verification_uri": f"{issuer}/device",
            "verification_uri_complete": f"{issuer}/device?user_code={shown}",
            "expires_in": SECONDS,
            "interval": INTERVAL,
        }
    )


async def take_device_code(kernel: Kernel, client: Client, text: str) -> tuple[Row, Ticket]:
    """What a device was allowed, once, and a first refresh token."""
    ticket = read_ticket(text)
    wrong = OAuthError("invalid_grant", "The device code is wrong, or used.")
    if ticket is None or ticket.tenant_id != client.tenant_id:
        raise wrong
    now = datetime.now(UTC)
    values = {"id": ticket.id, "client": client.id, "hashes": list(hashes(ticket.secret.hex())), "now": now}
    rows = await kernel.database.fetch(client.tenant_id, _ASK, values)
    if not rows:
        raise wrong
    row = rows[0]
    if row["expires_at"] <= now:
        raise OAuthError("expired_token", "Nobody allowed the device in time; begin again.")
    if row["decided_at"] is None:
        if row["asked_before"] is not None and now - row["asked_before"] < timedelta(seconds=INTERVAL - 1):
            raise OAuthError("slow_down", f"Ask every {INTERVAL} seconds.")
        raise OAuthError("authorization_pending", "The person has not decided yet.")
    if row["grant_id"] is None:
        raise OAuthError("access_denied", "The person refused.")
    return await first_refresh(kernel, client, UUID(row["grant_id"]))


@readable
async def device(request: Request) -> Response:
    """The page where somebody types in the code of a device, and allows it or not."""
    session = await signed_in(request)
    if session is None:
        query = request.url.query
        return RedirectResponse(sign_in_address(f"/device?{query}" if query else "/device"), 303)
    fields = await read_form(request, session) if request.method == "POST" else dict(request.query_params)
    text = fields.get("user_code", "")
    if not text:
        return _page(request, session)
    if request.method == "GET":
        return _page(request, session, user_code=text[:20])
    kernel: Kernel = request.scope["crm.kernel"]
    counted = kernel, session.tenant_id, GUESSES, str(session.principal_id)
    if await attempts.begin(*counted) is None:
        return _page(request, session, status=429, message="Too many wrong codes. Wait a few minutes.")
    typed = "".join(letter for letter in text.upper() if letter in LETTERS)
    values = {"user_code": typed, "now": datetime.now(UTC)}
    rows = await kernel.database.read(session.tenant_id, _OF_USER, values)
    client = await find_client(kernel, public_id(session.tenant_id, UUID(rows[0]["oauth_client_id"]))) if rows else None
    if client is None:
        return _page(request, session, status=400, message="There is no such code, or it has expired.")
    await attempts.take_back(*counted)
    scopes = orjson.loads(rows[0]["scopes"])
    if "decision" not in fields:
        return _page(request, session, user_code=text[:20], client=client.name, scopes=[words(each) for each in scopes])
    allowed = fields["decision"] == "allow"
    if not await _decide(request, session, client, UUID(rows[0]["id"]), scopes if allowed else None):
        return _page(request, session, status=400, message="There is no such code, or it has expired.")
    said = "connected" if allowed else "refused"
    return _page(
        request, session, message=f"The device {'is' if allowed else 'was'} {said}. You can close this page.", done=True
    )


async def _decide(
    request: Request, session: BrowserSession, client: Client, code_id: UUID, scopes: Collection[str] | None
) -> bool:
    """Notes what the person says, with the grant if there is one; whether the device still waited."""
    grant = Grant(
        client,
        session.principal_id,
        "device_code",
        scopes or (),
        signed_in_by=session.session_id,
        authenticated_at=session.authenticated_at,
        methods=session.methods,
    )

    async def work(ctx: Context) -> bool:
        if scopes is not None:
            await give(ctx, grant)
        values = {"id": code_id, "grant": None if scopes is None else grant.id, "now": ctx.now}
        if not await ctx.fetch(_DECIDE, values):
            raise OAuthError("invalid_grant", "Somebody was faster.")  # and nothing is granted
        return True

    ctx = acting(request, session.tenant_id, session.principal_id, "oauth")
    try:
        return bool(await transact(ctx, work))
    except OAuthError:
        return False


def _page(request: Request, session: BrowserSession, *, status: int = 200, **values: Any) -> Response:
    known = {"user_code": "", "client": None, "scopes": [], "message": None, "done": False, **values}
    return page(request, "Connect a device", "oauth/pages/device.html", status=status, session=session, **known)


router.add_api_route(
    "/oauth/device",
    start,
    methods=["POST"],
    operation_id="authorize_device",
    summary="Begin for a device without a browser",
)
pages = APIRouter()
pages.add_api_route("/device", device, methods=["GET", "POST"])
