"""What keeps a user from being erased: they are active, own what is under way, or nobody else administers."""

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from crm_api.domains.approvals.approval import APPROVALS
from crm_api.domains.distribution.transfer import movable
from crm_api.domains.identity.principal import USERS
from crm_api.domains.identity.role import ROLE_ASSIGNMENTS, ROLES
from crm_api.kernel.collective_rows import still_open
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.resource import Resource

MOST = 20
_USERS, _ROLES, _HOLDS = USERS.table, ROLES.table, ROLE_ASSIGNMENTS.table
_ID = sa.bindparam("id", type_=sa.Uuid())
_ALL = sa.literal([{"permission": "*:*", "reach": "all"}], JSONB())
_ACTIVE = Statement(
    sa.select(sa.cast(_USERS.c.id, sa.Text()).label("id")).where(
        _USERS.c.tenant_id == TENANT, _USERS.c.id == _ID, _USERS.c.is_active, _USERS.c.deleted_at.is_(None)
    )
)


def _administering(*conditions: sa.ColumnElement[bool]) -> Any:
    """Users with a role that gives everything."""
    tables = sa.join(_HOLDS, _ROLES, _ROLES.c.id == _HOLDS.c.role_id).join(_USERS, _USERS.c.id == _HOLDS.c.principal_id)
    return (
        sa.select(sa.cast(_USERS.c.id, sa.Text()).label("id"))
        .select_from(tables)
        .where(
            *(table.c.tenant_id == TENANT for table in (_HOLDS, _ROLES, _USERS)),
            *(table.c.deleted_at.is_(None) for table in (_HOLDS, _ROLES)),
            _USERS.c.kind == sa.literal("user", sa.Text()),
            _ROLES.c.permissions.contains(_ALL),
            *conditions,
        )
        .limit(sa.literal_column("1"))
    )


_ADMINISTRATOR = Statement(_administering(_USERS.c.id == _ID))
_OTHERS = Statement(_administering(_USERS.c.id != _ID, _USERS.c.is_active, _USERS.c.deleted_at.is_(None)))


async def of_user(ctx: Context, id_: str) -> list[dict[str, Any]]:
    """Why a user cannot be erased now, whatever keeps the data of anybody."""
    found = []
    if active := await ctx.fetch(_ACTIVE, {"id": UUID(id_)}):
        found.append(obstacle("still_active", USERS, active, "The user is active; deactivate or delete them first."))
    if (mine := await ctx.fetch(_ADMINISTRATOR, {"id": UUID(id_)})) and not await ctx.fetch(_OTHERS, {"id": UUID(id_)}):
        detail = "No other active user may do everything; make somebody else an administrator first."
        found.append(obstacle("last_administrator", USERS, mine, detail))
    for resource in ctx.kernel.catalog.resources.values():
        if resource is not APPROVALS and not movable(resource):
            continue
        statement = ctx.kernel.statement(("owned_by", resource.plural), partial(_owned, resource))
        if rows := await ctx.fetch(statement, {"id": UUID(id_)}):
            how = "delegate" if resource is APPROVALS else f"POST /v1/{resource.plural}/transfer"
            detail = f"There are {resource.plural} of the user under way; give them to others first, by {how}."
            found.append(obstacle("owned_records", resource, rows, detail, rows[0]["number"]))
    return found


def _owned(resource: Resource) -> Statement:
    """The first of the open records of an owner, and how many there are; an approval is of who is asked."""
    table = resource.table
    kind = [table.c[name] == sa.literal(value, sa.Text()) for name, value in resource.fixed.items()]
    owner = table.c.owner_id if resource.owner is None else table.c[resource.owner.key]
    number: Any = sa.func.count().over()
    rows = sa.select(sa.cast(table.c.id, sa.Text()).label("id"), number.label("number")).where(
        table.c.tenant_id == TENANT, owner == _ID, table.c.deleted_at.is_(None), still_open(resource), *kind
    )
    return Statement(rows.order_by(table.c.id).limit(sa.literal_column(str(MOST))))


def obstacle(
    code: str, resource: Resource, rows: Sequence[Row], detail: str, count: int | None = None
) -> dict[str, Any]:
    """One of the obstacles of a preview or a refusal; `rows` may be the first of `count`."""
    ids = [row["id"] for row in rows[:MOST]]
    number = len(rows) if count is None else count
    return {"code": code, "detail": detail, "resource": resource.plural, "count": number, "ids": ids}
