"""Territories, which are a tree, and who works in them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.identity.delegation import open_rows, opened_by_shares, shared_with
from crm_api.domains.identity.role import ROLES_OF
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement, bound
from crm_api.kernel.problems import IN_USE, Problem
from crm_api.kernel.record import Entity, among, one_of, reference, sortable, sparse, table_of, unique
from crm_api.kernel.resource import Check, Resource, ToMany
from crm_api.kernel.schema import Code, Id, Input, Line, Name, Output, Ref
from crm_api.kernel.tree import acyclic, ancestors

Pairs = frozenset[tuple[str, str]]
_PARENT = "The territory this one lies in; who works there reaches what is in this one, too."
_ACTIVE = "Nothing new gets into a territory that is not; who works there goes on to reach what is in it."


class Territory(Entity):
    """A part of the market."""

    __tablename__ = "territories"
    __table_args__ = (
        reference("parent_id", "territories"),
        unique("uq_territories_code", "code"),
        *sortable("territories", "code", "name_key", "created_at"),
        sparse("territories", "parent_id"),
    )

    code: Mapped[str]
    name: Mapped[str]
    name_key: Mapped[str]
    description: Mapped[str | None]
    parent_id: Mapped[UUID | None]
    is_active: Mapped[bool] = mapped_column(server_default="true")


class TerritoryCreate(Input):
    """A part of the market."""

    id: Id | None = None
    code: Code
    name: Name
    description: Line | None = None
    parent_id: Annotated[Ref | None, Field(description=_PARENT)] = None
    is_active: Annotated[bool, Field(description=_ACTIVE)] = True


class TerritoryView(Output):
    """A part of the market."""

    object: Literal["territory"]
    code: Code
    name: Name
    description: Line | None
    parent_id: Annotated[Id | None, Field(description=_PARENT)]
    is_active: Annotated[bool, Field(description=_ACTIVE)]


class TerritoryMember(Entity):
    """Somebody's work in a territory."""

    __tablename__ = "territory_members"
    __table_args__ = (
        reference("territory_id", "territories"),
        reference("principal_id", "principals"),
        one_of("role", ("member", "lead")),
        unique("uq_territory_members_principal_id", "principal_id", "territory_id"),
        *sortable("territory_members", "territory_id"),
    )

    territory_id: Mapped[UUID]
    principal_id: Mapped[UUID]
    role: Mapped[str]


Part = Annotated[
    Literal["member", "lead"], Field(description="The part they play; what they reach there is the same for both.")
]


class TerritoryMemberCreate(Input):
    """Gives a principal a territory, and all below it."""

    id: Id | None = None
    territory_id: Ref
    principal_id: Ref
    role: Part = "member"


class TerritoryMemberView(Output):
    """Somebody's work in a territory."""

    object: Literal["territory_member"]
    territory_id: Id
    principal_id: Id
    role: Part


_PLACES, _MEMBERS = table_of(Territory), table_of(TerritoryMember)


def worked_in(principal: sa.BindParameter[UUID]) -> sa.Select[Any]:
    """The territories that a principal works in, and all below them."""
    return _with_below(
        sa.select(_PLACES.c.id)
        .select_from(sa.join(_MEMBERS, _PLACES, _PLACES.c.id == _MEMBERS.c.territory_id))
        .where(
            _MEMBERS.c.tenant_id == TENANT,
            _PLACES.c.tenant_id == TENANT,
            _MEMBERS.c.principal_id == principal,
            _MEMBERS.c.deleted_at.is_(None),
            _PLACES.c.deleted_at.is_(None),
        )
    )


def _with_below(places: sa.Select[Any]) -> sa.Select[Any]:
    """The ids of some territories, and of all below them."""
    land = places.cte("land", recursive=True)
    part = _PLACES.alias("part")
    below = sa.select(part.c.id).where(part.c.tenant_id == TENANT, part.c.deleted_at.is_(None))
    land = land.union(below.where(part.c.parent_id == land.c.id))
    return sa.select(land.c.id)


_PLACE = sa.bindparam("territory", type_=sa.Uuid())
_SHARED = shared_with(
    "territory", _with_below(sa.select(_PLACES.c.id).where(_PLACES.c.tenant_id == TENANT, _PLACES.c.id == _PLACE))
)
_WORKING = Statement(
    sa.select(_MEMBERS.c.principal_id)
    .distinct()
    .where(
        _MEMBERS.c.tenant_id == TENANT,
        among(_MEMBERS.c.territory_id, sa.bindparam("territories", type_=ARRAY(sa.Uuid()))),
        _MEMBERS.c.deleted_at.is_(None),
    )
)


async def open_territory(ctx: Context, territories: set[str], by: str, shared: Pairs = frozenset()) -> None:
    """403 unless the caller holds what those who work in some territories get to see by reach `territory`.

    Args:
        ctx: the request.
        territories: where they work; with all above it, for what is in one.
        by: the reach that shows the caller the same rows; `all` does in any case.
        shared: (resource, action) that they get by shares.
    """
    if not ctx.access.unrestricted:
        people = await ctx.fetch(_WORKING, {"territories": bound(UUID(id_) for id_ in territories)})
        principals = bound(row["principal_id"] for row in people)
        open_rows(ctx, await ctx.fetch(ROLES_OF, {"principals": principals}), "territory", by, shared)


def _shown_by(ctx: Context, id_: Any) -> str:
    return "territory" if UUID(str(id_)) in ctx.access.territories else "all"


async def _shared(ctx: Context, id_: Any) -> Pairs:
    """What is shared with a territory and those below it, but what the caller has from working there."""
    inside = UUID(str(id_)) in ctx.access.territories
    return await opened_by_shares(ctx, _SHARED, {"territory": id_}, among_them=inside)


async def _joined(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """403 unless the caller holds what the new member gets to see."""
    del resource, before
    principals = bound([UUID(str(values["principal_id"]))])
    roles = await ctx.fetch(ROLES_OF, {"principals": principals})
    place = values["territory_id"]
    open_rows(ctx, roles, "territory", _shown_by(ctx, place), await _shared(ctx, place))


async def _moved(ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """403 unless the caller holds what those above the new place get to see; the same when it is restored."""
    if before is None and values.get("deleted_at") is None:
        return  # nothing is in a new one
    row = before or values
    above = set(await ancestors(ctx, resource, "parent_id", values.get("parent_id")))
    if before is None:
        above.add(str(row["id"]))
    else:
        above -= set(await ancestors(ctx, resource, "parent_id", before["parent_id"]))
    await open_territory(ctx, above, _shown_by(ctx, row["id"]), await _shared(ctx, row["id"]))


async def _empty(ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """409 while anything refers to it but who works there: what is in it would be in nobody's reach."""
    del resource, values
    statement = ctx.kernel.statement(("territory in use",), lambda: _in_use(ctx))
    if before is not None and (rows := await ctx.fetch(statement, {"territory": before["id"]})):
        raise Problem(IN_USE, f"There are {' and '.join(row['plural'] for row in rows)} in it or for it; move them.")


def _in_use(ctx: Context) -> Statement:
    """The collections with live records that refer to a territory."""
    found = []
    for resource in ctx.kernel.catalog.by_table.values():
        table = resource.table
        for column, target in resource.references.items():
            if target == TERRITORIES.table.name and resource is not TERRITORY_MEMBERS:
                here = table.c[column] == sa.bindparam("territory", type_=sa.Uuid())
                live: sa.Select[Any] = sa.select(sa.literal_column("1")).where(
                    table.c.tenant_id == TENANT, here, table.c.deleted_at.is_(None)
                )
                found.append(sa.select(sa.literal(resource.plural, sa.Text()).label("plural")).where(sa.exists(live)))
    return Statement(sa.union_all(*found))


TERRITORIES = Resource(
    singular="territory",
    plural="territories",
    model=Territory,
    output=TerritoryView,
    create=TerritoryCreate,
    keys={"name": Territory.name_key},
    filters=(Territory.code, Territory.name, Territory.parent_id, Territory.is_active),
    sorts=(Territory.code, Territory.name, Territory.created_at),
    many={"children": ToMany("territories", "parent_id")},
    default_access="read",
    checks=(
        Check(frozenset({"parent_id"}), acyclic("parent_id")),
        Check(frozenset({"parent_id", "deleted_at"}), _moved),
    ),
    deletable=_empty,
    access_fields=frozenset({"parent_id", "deleted_at"}),
    rights=lambda past, changed, _row, _me: past in ("deleted", "restored") or "parent_id" in changed,
)
TERRITORY_MEMBERS = Resource(
    singular="territory_member",
    plural="territory_members",
    model=TerritoryMember,
    output=TerritoryMemberView,
    create=TerritoryMemberCreate,
    title="id",
    filters=(TerritoryMember.territory_id, TerritoryMember.principal_id),
    default_access="read",
    checks=(Check(frozenset({"territory_id"}), _joined),),
    operations=frozenset({"get", "list", "create", "delete"}),
    access_fields=frozenset({"territory_id", "principal_id"}),
    rights=lambda _past, _changed, row, me: bool(row["principal_id"] == me),
)
