"""Identity providers: OpenID Connect servers whose word is taken for who somebody is."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import AfterValidator, Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.adapters import egress
from crm_api.domains.identity.delegation import for_good, pass_on
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.problems import invalid
from crm_api.kernel.record import Entity, Record, reference, sortable, table_of, unique
from crm_api.kernel.resource import Action, Check, Resource
from crm_api.kernel.schema import Id, Input, Instant, Name, Output, Wire

PURPOSE = "identity_provider_secret"


class IdentityProvider(Entity):
    """An OpenID Connect server that people sign in by."""

    __tablename__ = "identity_providers"
    __table_args__ = (
        unique("uq_identity_providers_name", "name_key"),
        *sortable("identity_providers", "created_at"),
    )

    name: Mapped[str]
    name_key: Mapped[str]
    issuer: Mapped[str]
    client_id: Mapped[str]
    email_domains: Mapped[list[Any]]
    is_active: Mapped[bool]
    sealed_secret: Mapped[bytes | None]
    secret_changed_at: Mapped[datetime | None]


class ProviderLink(Record):
    """Who a provider's subject is, since their first sign-in by it. No resource."""

    __tablename__ = "provider_links"
    __table_args__ = (
        reference("provider_id", "identity_providers"),
        reference("principal_id", "principals"),
        sa.UniqueConstraint("tenant_id", "principal_id", "provider_id", name="uq_provider_links_principal_id"),
    )

    provider_id: Mapped[UUID] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    principal_id: Mapped[UUID]
    created_at: Mapped[datetime]


PROVIDERS, LINKS = table_of(IdentityProvider), table_of(ProviderLink)
_LINKED = Statement(
    sa.select(sa.literal_column("1"))
    .where(LINKS.c.tenant_id == TENANT, LINKS.c.provider_id == sa.bindparam("id", type_=sa.Uuid()))
    .limit(sa.literal_column("1"))
)
_DOMAIN = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,24}$"
Issuer = Annotated[
    str, Field(pattern=r"^https?://[^\s?#]+$", min_length=10, max_length=500, examples=["https://login.example.com"])
]
ClientId = Annotated[str, Field(pattern=r"^[\x21-\x7e]+$", min_length=1, max_length=200, examples=["crm"])]
Domains = Annotated[
    list[Annotated[str, Field(pattern=_DOMAIN, max_length=253, examples=["example.com"])]],
    Field(min_length=1, max_length=50, description="Whose addresses the provider speaks for."),
    AfterValidator(lambda names: sorted(set(names))),
]


class IdentityProviderCreate(Input):
    """An OpenID Connect server that people sign in by."""

    id: Id | None = None
    name: Name
    issuer: Issuer
    client_id: ClientId
    email_domains: Domains
    is_active: bool = True


class IdentityProviderView(Output):
    """An OpenID Connect server that people sign in by."""

    object: Literal["identity_provider"]
    name: Name
    issuer: Issuer
    client_id: ClientId
    email_domains: Domains
    is_active: bool
    secret_changed_at: Instant | None


class SetClientSecret(Wire):
    """The secret that the provider gave for the client id; null for a public client."""

    client_secret: (
        Annotated[
            str, Field(pattern=r"^[\x20-\x7e]+$", min_length=1, max_length=1000, examples=["as the provider gave it"])
        ]
        | None
    )


async def _trusted(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """403 unless the caller holds everything: the provider can sign in as anybody of its domains."""
    del resource, values, before
    _hold_everything(ctx)


def _hold_everything(ctx: Context) -> None:
    for_good(ctx)
    pass_on(ctx, [{"permission": "*:*", "reach": "all"}], [])


async def _address(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """422 for an issuer that is not connected to, and for another one than the secret, or somebody's subject, is of."""
    del resource
    if (reason := egress.check(values["issuer"])) is not None:
        raise invalid("/issuer", "refused_address", reason)
    if before is None or before["issuer"] == values["issuer"]:
        return
    if before["secret_changed_at"] is not None:
        raise invalid("/issuer", "secret_set", "Its secret is for the present issuer. Set the secret to null first.")
    if await ctx.fetch(_LINKED, {"id": before["id"]}):
        raise invalid("/issuer", "people_linked", "People are linked to subjects of this one. Declare another.")


async def set_client_secret(ctx: Context, resource: Resource, row: Any, body: SetClientSecret) -> dict[str, Any]:
    """Keeps the secret encrypted; it is never shown."""
    del resource, row
    _hold_everything(ctx)
    if body.client_secret is None:
        return {"sealed_secret": None, "secret_changed_at": None}
    sealed = ctx.kernel.sealer.seal(ctx.principal.tenant_id, PURPOSE, body.client_secret.encode())
    return {"sealed_secret": sealed, "secret_changed_at": ctx.now}


_DECIDING = frozenset({"issuer", "client_id", "email_domains", "is_active"})
IDENTITY_PROVIDERS = Resource(
    singular="identity_provider",
    plural="identity_providers",
    model=IdentityProvider,
    output=IdentityProviderView,
    create=IdentityProviderCreate,
    keys={"name": IdentityProvider.name_key},
    filters=(IdentityProvider.is_active, IdentityProvider.name),
    sorts=(IdentityProvider.name, IdentityProvider.created_at),
    access_fields=_DECIDING,
    checks=(
        Check(_DECIDING | {"deleted_at"}, _trusted),
        Check(frozenset({"issuer"}), _address),
    ),
    actions=(
        Action(
            "set_client_secret",
            "Set the secret of the client at the provider",
            set_client_secret,
            event="secret_changed",
            body=SetClientSecret,
        ),
    ),
)
