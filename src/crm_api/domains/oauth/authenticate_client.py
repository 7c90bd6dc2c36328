"""Which client sends a request, and whether it is who it says (RFC 6749, 2.3)."""

import base64
import binascii
import hmac
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus
from uuid import UUID

import orjson
import sqlalchemy as sa
from starlette.requests import Request

from crm_api.domains.identity.credentials import hashes
from crm_api.domains.oauth.client import OAuthClient, read_public_id
from crm_api.domains.oauth.requests import OAuthError
from crm_api.kernel.context import Kernel
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.record import Tenant, table_of

_CLIENTS, _TENANTS = table_of(OAuthClient), table_of(Tenant)
_ID = sa.bindparam("id", type_=sa.Uuid())
_NAMES = ("name", "client_id", "client_type", "redirect_uris", "grant_types", "scopes", "hashed_secret")
_LOOK_UP = Statement(
    sa.select(
        *(_CLIENTS.c[name] for name in _NAMES),
        sa.cast(_CLIENTS.c.service_account_id, sa.Text()),
        _TENANTS.c.credential_rate,
        sa.case((_CLIENTS.c.earlier_until > sa.func.now(), _CLIENTS.c.hashed_earlier)).label("hashed_earlier"),
    )
    .select_from(sa.join(_CLIENTS, _TENANTS, sa.true()))
    .where(
        _CLIENTS.c.tenant_id == TENANT,
        _TENANTS.c.tenant_id == TENANT,
        _TENANTS.c.is_active,
        _CLIENTS.c.id == _ID,
        _CLIENTS.c.is_active,
        _CLIENTS.c.deleted_at.is_(None),
    )
)
_HASHED = Statement(
    sa.update(_CLIENTS)
    .where(
        _CLIENTS.c.tenant_id == TENANT,
        _CLIENTS.c.id == _ID,
        _CLIENTS.c.hashed_secret == sa.bindparam("before", type_=sa.LargeBinary()),
    )
    .values(hashed_secret=sa.bindparam("after", type_=sa.LargeBinary()))
)


@dataclass(frozen=True, slots=True)
class Client:
    """A client as it is registered; `client_id` is what it calls itself, `id` its row, `rate` that of its tenant."""

    tenant_id: UUID
    id: UUID
    client_id: str
    name: str
    public: bool
    redirect_uris: tuple[str, ...]
    grant_types: frozenset[str]
    scopes: frozenset[str]
    service_account_id: UUID | None
    secrets: tuple[bytes, ...]
    rate: int | None

    def may(self, grant_type: str) -> None:
        """Refuses a grant that it is not registered for."""
        if grant_type not in self.grant_types:
            raise OAuthError("unauthorized_client", "The client is not registered for this grant type.")


async def find_client(kernel: Kernel, client_id: str) -> Client | None:
    """The active client of a `client_id`."""
    parsed = read_public_id(client_id)
    if parsed is None:
        return None
    rows = await kernel.database.read(parsed[0], _LOOK_UP, {"id": parsed[1]})
    if not rows or rows[0]["client_id"] != client_id:
        return None
    row = rows[0]
    account = row["service_account_id"]
    return Client(
        *parsed,
        client_id,
        row["name"],
        row["client_type"] == "public",
        tuple(orjson.loads(row["redirect_uris"])),
        frozenset(orjson.loads(row["grant_types"])),
        frozenset(orjson.loads(row["scopes"])),
        None if account is None else UUID(account),
        tuple(bytes(row[name]) for name in ("hashed_secret", "hashed_earlier") if row[name] is not None),
        row["credential_rate"],
    )


async def authenticate_client(request: Request, given: dict[str, str], *, secret: bool = False) -> Client:
    """The client of a request, by HTTP Basic or by the form; a public one by its id alone.

    Args:
        request: of an endpoint for clients.
        given: its form.
        secret: whether a public client, which proves nothing, is refused.

    Raises:
        OAuthError: 401 `invalid_client`, always with the same text.
        Problem: 429 for a wrong secret after too many of them, and never for the right one: somebody else at the same
            address could keep the client out with them, and 256 bits are not guessed.
    """
    kernel: Kernel = request.scope["crm.kernel"]
    basic, client_id, offered = _offered(request, given)
    client = await find_client(kernel, client_id)
    if client is not None and client.public and offered is None and not secret:
        return client
    tried = hashes(offered or "")
    kept = () if client is None or client.public else client.secrets
    fits = [(old, new) for old in kept for new in tried if hmac.compare_digest(old, new)]
    if client is None or offered is None or not fits:
        await count_failure(request)
        headers = {"WWW-Authenticate": 'Basic realm="crm"'} if basic or offered is None else {}
        raise OAuthError("invalid_client", "The client is unknown, or did not prove who it is.", 401, headers)
    if fits[0][0] != tried[0]:  # it was kept under an earlier pepper
        values: dict[str, Any] = {"id": client.id, "before": fits[0][0], "after": tried[0]}
        await kernel.database.fetch(client.tenant_id, _HASHED, values)
    return client


async def count_failure(request: Request) -> None:
    """Counts a wrong secret, or none where it costs something, as a wrong API key is counted; 429 after too many."""
    limiter, address = request.scope["crm.kernel"].limiter, request.scope["crm.address"]
    await limiter.knock(address, None)
    limiter.failed(address, None)


def _offered(request: Request, given: dict[str, str]) -> tuple[bool, str, str | None]:
    """(whether by HTTP Basic, client id, secret)."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if not scheme:
        if "client_id" not in given:
            raise OAuthError("invalid_client", "Say which client this is.", 401, {"WWW-Authenticate": "Basic"})
        return False, given["client_id"], given.get("client_secret")
    if scheme.lower() != "basic" or "client_secret" in given:
        raise OAuthError("invalid_request", "Authenticate in one way: HTTP Basic, or client_secret in the body.")
    try:
        name, separator, secret = base64.b64decode(value, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        name, separator, secret = "", "", ""
    name = unquote_plus(name)
    if not separator or given.get("client_id", name) != name:
        raise OAuthError("invalid_request", "The Authorization header is malformed, or of another client.")
    return True, name, unquote_plus(secret)
