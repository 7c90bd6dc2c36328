"""The family of a grant: its code, its refresh tokens, each good once; and what happens when one comes again."""

import hmac
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.identity.credentials import hashes
from crm_api.domains.identity.tickets import Ticket, read_ticket
from crm_api.domains.oauth.authenticate_client import Client
from crm_api.domains.oauth.client import CREDENTIALS
from crm_api.domains.oauth.grant import OAUTH_GRANTS, OAuthGrant, end, live
from crm_api.domains.oauth.requests import OAuthError
from crm_api.domains.sign_in.session import Session
from crm_api.kernel.context import Context, Kernel, new_id
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.ledger import NOW
from crm_api.kernel.record import among, table_of
from crm_api.kernel.repository import record
from crm_api.kernel.unit_of_work import transact

CODE_SECONDS = 60
REFRESH_DAYS = 30
"""After which a refresh token that is not used is good no more."""

_GRANTS, _SESSIONS = table_of(OAuthGrant), table_of(Session)
_ID, _CLIENT = sa.bindparam("id", type_=sa.Uuid()), sa.bindparam("client", type_=sa.Uuid())
_HASHES = sa.bindparam("hashes", type_=ARRAY(sa.LargeBinary()))
_COLUMNS = (
    *("id", "kind", "principal_id", "oauth_client_id", "scopes", "session_id", "signed_in_by", "authenticated_at"),
    *("methods", "nonce", "redirect_uri", "code_challenge", "code_hash", "code_expires_at"),
)
_INSERT = Statement(
    sa.insert(_GRANTS).values(
        tenant_id=TENANT,
        created_at=NOW,
        updated_at=NOW,
        created_via="oauth",
        created_by=sa.bindparam("principal_id", type_=sa.Uuid()),
        updated_by=sa.bindparam("principal_id", type_=sa.Uuid()),
        **{name: sa.bindparam(name, type_=_GRANTS.c[name].type) for name in _COLUMNS},
    )
)
_FACTS = (
    *(sa.cast(_GRANTS.c[name], sa.Text()).label(name) for name in ("id", "principal_id", "signed_in_by")),
    *(sa.cast(_GRANTS.c.oauth_client_id, sa.Text()).label("oauth_client_id"), _GRANTS.c.scopes, _GRANTS.c.methods),
    *(_GRANTS.c[name] for name in ("authenticated_at", "nonce", "redirect_uri", "code_challenge", "code_expires_at")),
)
_NEXT = {
    "refresh_family": sa.bindparam("family", type_=sa.LargeBinary()),
    "refresh_hash": sa.bindparam("refresh", type_=sa.LargeBinary()),
    "refresh_expires_at": sa.bindparam("until", type_=sa.DateTime(timezone=True)),
}
_TAKE_CODE = Statement(
    sa.update(_GRANTS)
    .where(
        _GRANTS.c.tenant_id == TENANT,
        _GRANTS.c.id == _ID,
        among(_GRANTS.c.code_hash, _HASHES),
        _GRANTS.c.code_used_at.is_(None),
        live(),
    )
    .values(code_used_at=NOW, **_NEXT)
    .returning(*_FACTS)
)
_FIRST_REFRESH = Statement(
    sa.update(_GRANTS)
    .where(_GRANTS.c.tenant_id == TENANT, _GRANTS.c.id == _ID, _GRANTS.c.oauth_client_id == _CLIENT, live())
    .values(last_used_at=NOW, **_NEXT)
    .returning(*_FACTS)
)
_TAKE_REFRESH = Statement(
    sa.update(_GRANTS)
    .where(
        _GRANTS.c.tenant_id == TENANT,
        _GRANTS.c.id == _ID,
        _GRANTS.c.oauth_client_id == _CLIENT,
        among(_GRANTS.c.refresh_hash, _HASHES),
        _GRANTS.c.refresh_expires_at > NOW,
        live(),
    )
    .values(last_used_at=NOW, **_NEXT)
    .returning(*_FACTS)
)
_SECRETS = Statement(
    sa.select(
        sa.cast(_GRANTS.c.oauth_client_id, sa.Text()),
        *(_GRANTS.c[name] for name in ("code_hash", "code_used_at", "refresh_family", "refresh_hash", "revoked_at")),
        *(_GRANTS.c[name] for name in ("refresh_expires_at", "scopes")),
        sa.cast(_GRANTS.c.principal_id, sa.Text()),
        live().label("live"),
    ).where(_GRANTS.c.tenant_id == TENANT, _GRANTS.c.id == _ID)
)
_STANDING = Statement(
    sa.select(sa.cast(_GRANTS.c.id, sa.Text()))
    .where(
        _GRANTS.c.tenant_id == TENANT,
        _GRANTS.c.oauth_client_id == _CLIENT,
        _GRANTS.c.kind == sa.literal(CREDENTIALS, sa.Text()),
        live(),
    )
    .order_by(_GRANTS.c.id.desc())
    .limit(sa.literal_column("1"))
)


_STILL = Statement(
    sa.select(_SESSIONS.c.id)
    .where(
        _SESSIONS.c.tenant_id == TENANT,
        _SESSIONS.c.id == sa.bindparam("session", type_=sa.Uuid()),
        _SESSIONS.c.revoked_at.is_(None),
        _SESSIONS.c.expires_at > NOW,
    )
    .with_for_update(read=True)
)
"""Waits for who is ending the session, and keeps others from it until there is a grant, which they end then."""


@dataclass(slots=True)
class Grant:
    """What a person allowed, or a client has by itself; the fields are those of the table."""

    client: Client
    principal_id: UUID
    kind: str
    scopes: Collection[str]
    session_id: UUID | None = None
    signed_in_by: UUID | None = None
    authenticated_at: datetime | None = None
    methods: Collection[str] = ()
    nonce: str | None = None
    redirect_uri: str | None = None
    code_challenge: str | None = None
    id: UUID = field(default_factory=new_id)


def _hash(secret: bytes) -> bytes:
    return hashes(secret.hex())[0]


def _fits(secret: bytes, kept: bytes | None) -> bool:
    return kept is not None and any(hmac.compare_digest(bytes(kept), each) for each in hashes(secret.hex()))


def _following(tenant_id: UUID, grant_id: UUID, earlier: bytes | None = None) -> tuple[Ticket, dict[str, Any]]:
    """A refresh token and what is kept of it: its first half stays through the family, its second is of it alone."""
    fresh = Ticket(tenant_id, grant_id)
    ticket = fresh if earlier is None else Ticket(tenant_id, grant_id, earlier[:16] + fresh.secret[16:])
    until = datetime.now(UTC) + timedelta(days=REFRESH_DAYS)
    return ticket, {"family": _hash(ticket.secret[:16]), "refresh": ticket.hash, "until": until}


async def give(ctx: Context, grant: Grant, *, with_code: bool = False) -> Ticket | None:
    """Records a grant, in the open transaction or in one of its own; the code for it, if it is wanted.

    Raises:
        OAuthError: the session in which a person gives it has ended meanwhile.
    """
    code = Ticket(grant.client.tenant_id, grant.id) if with_code else None

    async def work(inner: Context) -> None:
        by = grant.signed_in_by
        if by is not None and not await inner.fetch(_STILL, {"session": by, "now": inner.now}):
            raise OAuthError("access_denied", "The person is not signed in any more.")
        values: dict[str, Any] = {name: getattr(grant, name, None) for name in _COLUMNS} | {
            "oauth_client_id": grant.client.id,
            "scopes": sorted(grant.scopes),
            "methods": list(grant.methods),
            "code_hash": code.hash if code else None,
            "code_expires_at": inner.now + timedelta(seconds=CODE_SECONDS) if code else None,
            "now": inner.now,
        }
        await inner.fetch(_INSERT, values)
        told = {"oauth_client_id": str(grant.client.id), "scopes": sorted(grant.scopes)}
        await record(inner, OAUTH_GRANTS, grant.id, "grant", "granted", after=told)

    await (work(ctx) if ctx.link is not None else transact(ctx, work))
    return code


async def standing(ctx: Context, client: Client) -> UUID:
    """The grant of a client for itself; it is made when there is none, or when it was revoked."""
    rows = await ctx.read(_STANDING, {"client": client.id})
    if rows:
        return UUID(rows[0][0])
    assert client.service_account_id is not None  # noqa: S101 - asked of every client with this grant type
    grant = Grant(client, client.service_account_id, CREDENTIALS, client.scopes)
    await give(ctx, grant)
    if not await ctx.read(_STANDING, {"client": client.id}):
        raise OAuthError("invalid_grant", "The service account is not active.")
    return grant.id


async def take_code(kernel: Kernel, text: str, request_id: str) -> tuple[Row, Ticket]:
    """What a code was given for, once, and a first refresh token; used again, it ends all that came of it."""
    ticket = read_ticket(text)
    if ticket is None:
        raise _no_code()
    refresh, kept = _following(ticket.tenant_id, ticket.id)
    now = datetime.now(UTC)
    values = {"id": ticket.id, "hashes": list(hashes(ticket.secret.hex())), "now": now, **kept}
    rows = await kernel.database.fetch(ticket.tenant_id, _TAKE_CODE, values)
    if not rows:
        known = await secrets_of(kernel, ticket)
        if known and known["code_used_at"] is not None and ticket.fits(known["code_hash"]):
            await end(kernel, ticket.tenant_id, ticket.id, request_id)
        raise _no_code()
    if rows[0]["code_expires_at"] <= now:
        await end(kernel, ticket.tenant_id, ticket.id, request_id)
        raise _no_code()
    return rows[0], refresh


async def first_refresh(kernel: Kernel, client: Client, grant_id: UUID) -> tuple[Row, Ticket]:
    """A grant that holds, and a first refresh token of it."""
    refresh, kept = _following(client.tenant_id, grant_id)
    rows = await kernel.database.fetch(
        client.tenant_id, _FIRST_REFRESH, {"id": grant_id, "client": client.id, "now": datetime.now(UTC), **kept}
    )
    if not rows:
        raise OAuthError("invalid_grant", "The grant was revoked.")
    return rows[0], refresh


async def take_refresh(kernel: Kernel, client: Client, text: str, request_id: str) -> tuple[Row, Ticket]:
    """What a refresh token is good for, once, and the next one; an earlier one ends the family (RFC 9700, 4.14.2)."""
    ticket = read_ticket(text)
    if ticket is None or ticket.tenant_id != client.tenant_id:
        raise _no_refresh()
    following, kept = _following(ticket.tenant_id, ticket.id, ticket.secret)
    values = {
        "id": ticket.id,
        "client": client.id,
        "hashes": list(hashes(ticket.secret.hex())),
        "now": datetime.now(UTC),
        **kept,
    }
    rows = await kernel.database.fetch(ticket.tenant_id, _TAKE_REFRESH, values)
    if rows:
        return rows[0], following
    known = await secrets_of(kernel, ticket)
    if known and _fits(ticket.secret[:16], known["refresh_family"]):
        foreign = UUID(known["oauth_client_id"]) != client.id
        if foreign or not ticket.fits(known["refresh_hash"]):
            await end(kernel, ticket.tenant_id, ticket.id, request_id)
    raise _no_refresh()


async def scopes_of_refresh(kernel: Kernel, client: Client, text: str) -> frozenset[str] | None:
    """The scopes that a client's refresh token is good for; None for any other text, of which nothing is told."""
    ticket = read_ticket(text)
    known = None if ticket is None or ticket.tenant_id != client.tenant_id else await secrets_of(kernel, ticket)
    if ticket is None or known is None or known["refresh_hash"] is None or not ticket.fits(known["refresh_hash"]):
        return None
    return scopes_in(known) & client.scopes if known["oauth_client_id"] == str(client.id) else None


async def secrets_of(kernel: Kernel, ticket: Ticket) -> Row | None:
    """What is kept of a grant's secrets, whether it holds or not."""
    rows = await kernel.database.read(ticket.tenant_id, _SECRETS, {"id": ticket.id})
    return rows[0] if rows else None


def scopes_in(row: Row) -> frozenset[str]:
    """The scopes of a grant."""
    return frozenset(orjson.loads(row["scopes"]))


def _no_code() -> OAuthError:
    return OAuthError("invalid_grant", "The code is wrong, expired, used, or not for this client and address.")


def _no_refresh() -> OAuthError:
    return OAuthError("invalid_grant", "The refresh token is wrong, expired, used or revoked.")
