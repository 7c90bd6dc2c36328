"""Parent columns: no record may become its own ancestor, not even by two writers at once."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.problems import CYCLE, Fault, Problem
from crm_api.kernel.resource import CheckFunction, Resource

MAX_DEPTH = 64
_LOCK = Statement(
    sa.select(
        sa.func.pg_advisory_xact_lock(
            sa.func.hashtextextended(sa.bindparam("lock", type_=sa.Text()), sa.literal_column("0"))
        )
    )
)
"""One writer at a time changes the shape of a tree. A statement of its own: a statement that waits for the lock still
reads as of when it began to wait."""


def acyclic(column: str) -> CheckFunction:
    """A check for a column that points to the same table."""

    async def check(
        ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
    ) -> None:
        parent = values.get(column)
        if parent is None:
            return
        row_id = str(before["id"] if before is not None else values["id"])
        statement = ctx.kernel.statement(
            ("ancestors", resource.table.name, column), lambda: _ancestors(resource, column)
        )
        await ctx.fetch(_LOCK, {"lock": f"{ctx.principal.tenant_id}:{resource.table.name}.{column}"})
        rows = await ctx.fetch(statement, {"parent": parent})
        chain = [row["id"] for row in rows]
        if row_id.lower() in chain or len(chain) > MAX_DEPTH:
            detail = (
                "The record would become its own ancestor."
                if row_id.lower() in chain
                else f"The tree has at most {MAX_DEPTH} levels."
            )
            raise Problem(CYCLE, detail, [Fault("cycle", detail, pointer=f"/{column}")])

    return check


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
