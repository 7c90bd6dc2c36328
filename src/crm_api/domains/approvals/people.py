"""Who decides a step of an approval: whom it names if they can, else somebody above; never whose doing it is."""

from collections.abc import Collection, Mapping
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from crm_api.domains.identity.api_key import ApiKey
from crm_api.domains.identity.principal import Principal
from crm_api.domains.identity.role import Role, RoleAssignment
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.external import is_external, own_id
from crm_api.kernel.record import among, table_of

_HIGHEST = 50
_HOLDS, _ROLES, _PEOPLE = table_of(RoleAssignment), table_of(Role), table_of(Principal)
_KEYS = table_of(ApiKey)
_ID = sa.bindparam("id", type_=sa.Uuid())


async def approver_of(
    ctx: Context, step: Mapping[str, Any], requester: str | None, rank: int, barred: Collection[str]
) -> tuple[str | None, str | None]:
    """(principal, role) who decides: whom the step names if they can, else those above, else administrators.

    Nobody who is barred is found, neither as a person nor as the only holder of a role; but administrators are asked
    at last, whoever of them is.
    """
    if step["kind"] == "principal" and step["principal_id"] not in barred and await person(ctx, step["principal_id"]):
        return step["principal_id"], None
    if step["kind"] == "role" and await _is_held(ctx, step["role_id"], barred):
        return None, step["role_id"]
    above = [] if requester is None else [id_ for id_ in await _above(ctx, requester) if id_ not in barred]
    if len(above) > rank:
        return above[rank], None
    return None, await _administrators(ctx)


async def person(ctx: Context, id_: str) -> str | None:
    """The id of an active principal."""
    if is_external(id_):
        id_ = str(await own_id(ctx, ctx.kernel.catalog.resources["principals"], id_))
    statement = ctx.kernel.statement(
        ("active principal",), lambda: Statement(one(_PEOPLE.c.id, _PEOPLE.c.id == _ID, _PEOPLE.c.is_active))
    )
    rows = await ctx.fetch(statement, {"id": id_})
    return rows[0]["id"] if rows else None


async def _is_held(ctx: Context, role_id: str, barred: Collection[str]) -> bool:
    """Whether somebody active who is not barred holds a role."""

    def build() -> Statement:
        rows = one(
            _HOLDS.c.principal_id,
            _HOLDS.c.role_id == _ID,
            exists_role(_HOLDS),
            _HOLDS.c.principal_id != sa.all_(sa.bindparam("barred", type_=ARRAY(sa.Uuid()))),
            _HOLDS.c.principal_id.in_(
                sa.select(_PEOPLE.c.id).where(
                    _PEOPLE.c.tenant_id == TENANT, _PEOPLE.c.is_active, _PEOPLE.c.deleted_at.is_(None)
                )
            ),
        )
        return Statement(rows.limit(sa.literal_column("1")))

    return bool(await ctx.fetch(ctx.kernel.statement(("role held",), build), {"id": role_id, "barred": list(barred)}))


async def agents_of(ctx: Context, ids: Collection[str]) -> Collection[str]:
    """The ids of service accounts that some people made, or have issued a key of: what those decide, they decide."""

    def build() -> Statement:
        theirs = sa.bindparam("ids", type_=ARRAY(sa.Uuid()))
        keyed = sa.select(_KEYS.c.principal_id).where(_KEYS.c.tenant_id == TENANT, among(_KEYS.c.created_by, theirs))
        service = _PEOPLE.c.kind == sa.literal("service", sa.Text())
        made = sa.or_(among(_PEOPLE.c.created_by, theirs), sa.cast(_PEOPLE.c.id.in_(keyed), sa.Boolean))
        return Statement(one(_PEOPLE.c.id, service, made))

    rows = await ctx.fetch(ctx.kernel.statement(("agents",), build), {"ids": list(ids)})
    return [row["id"] for row in rows]


async def _above(ctx: Context, principal_id: str) -> list[str]:
    """Everybody active above a principal, nearest first."""

    def build() -> Statement:
        alive = (_PEOPLE.c.tenant_id == TENANT, _PEOPLE.c.deleted_at.is_(None))
        columns = (_PEOPLE.c.id, _PEOPLE.c.manager_id, _PEOPLE.c.is_active)
        line = sa.select(*columns, sa.literal_column("0").label("depth")).where(*alive, _PEOPLE.c.id == _ID)
        tree = line.cte("line", recursive=True)
        deeper = tree.c.depth + sa.literal_column("1")
        up = sa.select(*columns, deeper).where(
            *alive, _PEOPLE.c.id == tree.c.manager_id, tree.c.depth < sa.literal_column(str(_HIGHEST))
        )
        tree = tree.union_all(up)
        found = sa.select(sa.cast(tree.c.id, sa.Text()).label("id")).where(
            tree.c.is_active, tree.c.depth > sa.literal_column("0")
        )
        return Statement(found.order_by(tree.c.depth))

    rows = await ctx.fetch(ctx.kernel.statement(("people above",), build), {"id": principal_id})
    return [row["id"] for row in rows if row["id"] != principal_id]


async def _administrators(ctx: Context) -> str | None:
    """The role of those who may do everything."""

    def build() -> Statement:
        everything = sa.literal(orjson.dumps([{"permission": "*:*", "reach": "all"}]).decode(), sa.Text())
        grants = sa.type_coerce(_ROLES.c.permissions, JSONB())
        rows = one(_ROLES.c.id, grants.contains(sa.cast(everything, JSONB())))
        return Statement(rows.order_by(_ROLES.c.created_at).limit(sa.literal_column("1")))

    rows = await ctx.fetch(ctx.kernel.statement(("administrators",), build), {})
    return rows[0]["id"] if rows else None


def exists_role(holds: Any) -> sa.ColumnElement[bool]:
    """A condition that the role of an assignment was not deleted: what nobody can take any more, nobody has."""
    roles = _ROLES.alias("roles_there")
    there = sa.select(roles.c.id).where(roles.c.tenant_id == TENANT, roles.c.deleted_at.is_(None))
    return sa.cast(holds.c.role_id.in_(there), sa.Boolean)


def one(column: Any, *conditions: Any) -> sa.Select[Any]:
    """A column of live rows, as text, under the name `id`."""
    table = column.table
    return sa.select(sa.cast(column, sa.Text()).label("id")).where(
        table.c.tenant_id == TENANT, table.c.deleted_at.is_(None), *conditions
    )
