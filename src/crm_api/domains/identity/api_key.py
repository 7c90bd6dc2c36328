"""API keys as the API shows them: who holds one, what it may do, when it was last used. Never the secret."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped

from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.joints import ERASED
from crm_api.kernel.ledger import NOW
from crm_api.kernel.problems import CONFLICT, Problem
from crm_api.kernel.record import Entity, reference, sortable, table_of
from crm_api.kernel.repository import update
from crm_api.kernel.resource import READS, Action, Resource
from crm_api.kernel.schema import Id, Instant, Name, Output


class ApiKey(Entity):
    """A credential of a principal."""

    __tablename__ = "api_keys"
    __table_args__ = (reference("principal_id", "principals"), *sortable("api_keys", "principal_id", "created_at"))

    principal_id: Mapped[UUID]
    name: Mapped[str]
    secret_hash: Mapped[bytes]
    scopes: Mapped[list[Any] | None]
    allowed_networks: Mapped[list[Any]]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class ApiKeyView(Output):
    """A credential of a principal."""

    object: Literal["api_key"]
    principal_id: Id
    name: Name
    scopes: Annotated[list[Annotated[str, Field(max_length=80)]], Field(max_length=100)] | None
    allowed_networks: Annotated[list[Annotated[str, Field(max_length=49)]], Field(max_length=50)]
    expires_at: Instant | None
    last_used_at: Annotated[Instant | None, Field(description="Exact to a minute.")]
    revoked_at: Instant | None


async def revoke(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Ends a key, on every process with its next request."""
    del resource, body
    if row["revoked_at"] is not None:
        raise Problem(CONFLICT, "The key is revoked already.")
    return {"revoked_at": ctx.now}


API_KEYS = Resource(
    singular="api_key",
    plural="api_keys",
    model=ApiKey,
    output=ApiKeyView,
    owner=ApiKey.principal_id,
    filters=(ApiKey.principal_id,),
    sorts=(ApiKey.created_at,),
    operations=READS,
    access_fields=frozenset({"revoked_at"}),
    personal={"name": ERASED, "allowed_networks": []},
    actions=(Action("revoke", "End the key", revoke, event="revoked"),),
)

_KEYS = table_of(ApiKey)
_LIVE = Statement(
    sa.select(sa.cast(_KEYS.c.id, sa.Text()))
    .where(
        _KEYS.c.tenant_id == TENANT,
        _KEYS.c.principal_id == sa.bindparam("principal", type_=sa.Uuid()),
        _KEYS.c.revoked_at.is_(None),
        sa.or_(_KEYS.c.expires_at.is_(None), _KEYS.c.expires_at > NOW),
    )
    .order_by(_KEYS.c.id)
)


async def live_keys(ctx: Context, principal_id: UUID) -> list[str]:
    """The ids of the keys of a principal that are good."""
    return [row[0] for row in await ctx.fetch(_LIVE, {"principal": principal_id, "now": ctx.now})]


async def revoke_keys(ctx: Context, principal_id: UUID) -> None:
    """Ends all keys of a principal, in the open transaction; `ctx` has our own rights."""
    for id_ in await live_keys(ctx, principal_id):
        change, events = {"revoked_at": ctx.now}, ("updated", "revoked")
        await update(ctx, API_KEYS, id_, change, action="revoke", events=events, by_verb=True)
