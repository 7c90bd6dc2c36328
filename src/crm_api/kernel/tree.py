"""Parent columns: no record may become its own ancestor, not even by two writers at once."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.locking import one_at_a_time
from crm_api.kernel.problems import CYCLE, Fault, Problem
from crm_api.kernel.repository import check_references
from crm_api.kernel.resource import CheckFunction, Resource

MAX_DEPTH = 64


def acyclic(column: str) -> CheckFunction:
    """A check for a column that points to the same table; one writer at a time changes the shape of a tree."""

    async def check(
        ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
    ) -> None:
        parent = values.get(column)
        if parent is None:
            return
        await check_references(ctx, resource, {column: parent})  # first: a chain of hidden records is not told of
        row_id = str(before["id"] if before is not None else values["id"])
        await one_at_a_time(ctx, f"{resource.table.name}.{column}")
        chain = await ancestors(ctx, resource, column, parent)
        if row_id.lower() in chain or len(chain) > MAX_DEPTH:
            detail = (
                "The record would become its own ancestor."
                if row_id.lower() in chain
                else f"The tree has at most {MAX_DEPTH} levels."
            )
            raise Problem(CYCLE, detail, [Fault("cycle", detail, pointer=f"/{column}")])

    return check


async def ancestors(ctx: Context, resource: Resource, column: str, id_: Any) -> list[str]:
    """A record and all above it, nearest first; none when there is no such record."""
    statement = ctx.kernel.statement(("ancestors", resource.table.name, column), lambda: _ancestors(resource, column))
    return [row["id"] for row in await ctx.fetch(statement, {"parent": id_})]


def _ancestors(resource: Resource, column: str) -> Statement:
    """The chain of parents."""
    table = resource.table
    up = (
        sa.select(table.c.id, table.c[column].label("up"), sa.literal_column("1").label("depth"))
        .where(table.c.tenant_id == TENANT, table.c.id == sa.bindparam("parent", type_=sa.Uuid()))
        .cte("chain", recursive=True)
    )
    above = table.alias("above")
    up = up.union_all(
        sa.select(above.c.id, above.c[column], up.c.depth + sa.literal_column("1")).where(
            above.c.tenant_id == TENANT, above.c.id == up.c.up, up.c.depth <= sa.literal_column(str(MAX_DEPTH))
        )
    )
    return Statement(sa.select(sa.cast(up.c.id, sa.Text()).label("id")).order_by(up.c.depth))
