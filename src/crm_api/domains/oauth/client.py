"""OAuth clients: programs that ask for tokens, for people who agree to it or for a service account of their own."""

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

import sqlalchemy as sa
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from sqlalchemy.orm import Mapped

from crm_api.domains.identity.delegation import for_good, parsed
from crm_api.domains.identity.role import act_as
from crm_api.domains.oauth.rotate_secret import ROTATE_SECRET
from crm_api.domains.oauth.scopes import covered, known
from crm_api.kernel.context import Context, new_id
from crm_api.kernel.joints import Build
from crm_api.kernel.problems import invalid
from crm_api.kernel.record import Entity, one_of, reference, sortable, sparse, unique
from crm_api.kernel.repository import find
from crm_api.kernel.resource import Check, Resource
from crm_api.kernel.schema import Id, Input, Instant, Name, Output, Ref

CODE = "authorization_code"
REFRESH = "refresh_token"
CREDENTIALS = "client_credentials"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|::1")
"""Nothing else: pages name the host of an address in their Content-Security-Policy."""
_LOOPBACK = re.compile(r"(http://(?:127\.0\.0\.1|\[::1\]))(?::[0-9]{1,5})?(/.*)?")
"""Addresses of the own machine, of which a native application chooses the port (RFC 8252, 7.3)."""


class OAuthClient(Entity):
    """A program that asks for tokens. Of a secret only a keyed hash is kept; while one is replaced, of two."""

    __tablename__ = "oauth_clients"
    __table_args__ = (
        one_of("client_type", ("confidential", "public")),
        reference("service_account_id", "principals"),
        unique("uq_oauth_clients_client_id", "client_id"),
        sparse("oauth_clients", "service_account_id"),
        *sortable("oauth_clients", "created_at"),
    )

    name: Mapped[str]
    client_id: Mapped[str]
    client_type: Mapped[str]
    redirect_uris: Mapped[list[Any]]
    grant_types: Mapped[list[Any]]
    scopes: Mapped[list[Any]]
    service_account_id: Mapped[UUID | None]
    is_active: Mapped[bool] = sa.orm.mapped_column(server_default="true")
    hashed_secret: Mapped[bytes | None]
    hashed_earlier: Mapped[bytes | None]
    earlier_until: Mapped[datetime | None]
    secret_changed_at: Mapped[datetime | None]


def public_id(tenant_id: UUID, id_: UUID) -> str:
    """The `client_id` of a row: it names the tenant, so that row security holds from the first look-up."""
    return base64.urlsafe_b64encode(tenant_id.bytes + id_.bytes).decode().rstrip("=")


def read_public_id(text: str) -> tuple[UUID, UUID] | None:
    """(tenant, row) of a `client_id`; None for anything that is none."""
    if len(text) != 43 or not text.isascii():
        return None
    try:
        raw = base64.b64decode(text + "=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    found = UUID(bytes=raw[:16]), UUID(bytes=raw[16:])
    return found if public_id(*found) == text else None


def _redirect(value: str) -> str:
    """A redirect URI: https, or http to the own machine; without fragment, credentials or white space."""
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    safe = value.isascii() and value.isprintable() and not set(value) & set('#\\ <>"') and "@" not in parts.netloc
    secure = parts.scheme == "https" or (parts.scheme == "http" and host in ("127.0.0.1", "::1", "localhost"))
    if not _HOST.fullmatch(host) or not safe or not secure:
        raise PydanticCustomError(
            "invalid_redirect_uri", "This is not https://…, or http:// to 127.0.0.1, [::1] or localhost, without #."
        )
    return value


def redirects_to(registered: str, given: str) -> bool:
    """Whether an address is the registered one: character by character, but for the port of the own machine."""
    return given == registered or (_portless(registered) is not None and _portless(registered) == _portless(given))


def _portless(address: str) -> str | None:
    found = _LOOPBACK.fullmatch(address)
    return None if found is None else found[1] + (found[2] or "")


RedirectUri = Annotated[
    str,
    Field(min_length=10, max_length=2000, examples=["https://app.example.com/callback"]),
    AfterValidator(_redirect),
]
RedirectUris = Annotated[
    list[RedirectUri],
    Field(max_length=20, description="Compared exactly; only the port of 127.0.0.1 and [::1] is free (RFC 8252)."),
]
GrantType = Literal[
    "authorization_code", "refresh_token", "client_credentials", "urn:ietf:params:oauth:grant-type:device_code"
]
GrantTypes = Annotated[list[GrantType], Field(min_length=1, max_length=4)]
Scopes = Annotated[
    list[Annotated[str, Field(pattern="^[a-z_]+(:[a-z]+)?$", max_length=80, examples=["accounts:read"])]],
    Field(min_length=1, max_length=200, description="What its tokens may be allowed to do, at most."),
]


class OAuthClientCreate(Input):
    """A program that asks for tokens."""

    id: Id | None = None
    name: Annotated[Name, Field(description="What people are asked about.")]
    client_type: Annotated[
        Literal["confidential", "public"],
        Field(description="`public` for what cannot keep a secret: browsers, phones, desktops."),
    ]
    redirect_uris: RedirectUris = []
    grant_types: GrantTypes = ["authorization_code", "refresh_token"]
    scopes: Scopes
    service_account_id: Annotated[
        Ref | None, Field(description="Whom it acts as by itself, with `client_credentials`.")
    ] = None
    is_active: bool = True


class OAuthClientView(Output):
    """A program that asks for tokens."""

    object: Literal["oauth_client"]
    name: Name
    client_id: Annotated[str, Field(max_length=43, description="What it calls itself at the token endpoint.")]
    client_type: Literal["confidential", "public"]
    redirect_uris: RedirectUris
    grant_types: GrantTypes
    scopes: Scopes
    service_account_id: Id | None
    is_active: bool
    secret_changed_at: Annotated[Instant | None, Field(description="Null: it has no secret yet.")]


async def _named(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """The `client_id` of a new client."""
    del resource
    if before is not None:
        return {}
    id_ = UUID(str(values["id"])) if values.get("id") else new_id()
    return {"id": id_, "client_id": public_id(ctx.principal.tenant_id, id_)}


async def _coherent(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """422 for what does not go together, and for scopes that there are not."""
    del resource
    whole = {**(before or {}), **values}
    grants, scopes = parsed(whole["grant_types"]), parsed(whole["scopes"])
    all_scopes = known(ctx.kernel.catalog)
    for i, scope in enumerate(scopes):
        if scope not in all_scopes:
            raise invalid(f"/scopes/{i}", "unknown_scope", "There is no such scope.")
    if CREDENTIALS in grants and whole["client_type"] == "public":
        raise invalid("/grant_types", "needs_secret", "A public client cannot prove who it is, so it acts for nobody.")
    if CREDENTIALS in grants and whole.get("service_account_id") is None:
        raise invalid("/service_account_id", "required", "A client that acts by itself acts as a service account.")
    if grants == [REFRESH]:
        raise invalid("/grant_types", "incomplete", "A refresh token comes of another grant.")


async def _acting(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """403 unless the caller holds all that the service account may do within these scopes; 422 unless it is one.

    Who may change the client may always switch it off.
    """
    del resource
    if before is not None and values == {"is_active": False}:
        return
    whole = {**(before or {}), **values}
    covered(ctx, parsed(whole["scopes"]))
    if (account := whole.get("service_account_id")) is None:
        return
    if await find(ctx, ctx.kernel.catalog.resources["service_accounts"], account) is None:
        raise invalid("/service_account_id", "reference_not_found", "There is no such service account.")
    for_good(ctx)
    await act_as(ctx, UUID(str(account)))


_TOGETHER = frozenset({"client_type", "grant_types", "scopes", "service_account_id"})
_WHOSE = frozenset({"name", "redirect_uris"})
"""Whom people are asked about, and who gets the tokens: another of these is another client with these scopes."""

OAUTH_CLIENTS = Resource(
    singular="oauth_client",
    plural="oauth_clients",
    model=OAuthClient,
    output=OAuthClientView,
    create=OAuthClientCreate,
    default_access="read",
    filters=(OAuthClient.client_id, OAuthClient.client_type, OAuthClient.is_active),
    sorts=(OAuthClient.created_at,),
    builds=(Build(frozenset({"name"}), _named),),
    checks=(
        Check(_TOGETHER, _coherent, cleared=frozenset({"service_account_id"})),
        Check(_TOGETHER | _WHOSE | {"is_active", "deleted_at"}, _acting),
    ),
    once=frozenset({"client_type"}),
    access_fields=frozenset({"is_active", "service_account_id"}),
    actions=(ROTATE_SECRET,),
)
