"""Locks beyond a verb's own row: several rows in one order, and turns for what no row stands for."""

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement, bound
from crm_api.kernel.resource import Resource

_LOCK = Statement(
    sa.select(
        sa.func.pg_advisory_xact_lock(
            sa.func.hashtextextended(sa.bindparam("lock", type_=sa.Text()), sa.literal_column("0"))
        )
    )
)
"""A statement of its own: a statement that waits for the lock still reads as of when it began to wait."""


async def one_at_a_time(ctx: Context, what: str) -> None:
    """Waits for its turn within the tenant, and keeps it to the end of the transaction."""
    await ctx.fetch(_LOCK, {"lock": f"{ctx.principal.tenant_id}:{what}"})


async def in_order(ctx: Context, resource: Resource, ids: list[UUID]) -> None:
    """Locks rows that the caller may write, in the order of `ids`, which is sorted: who all lock so never deadlock."""
    action = next((name for name in ("update", "delete") if name in resource.operations), None)
    if action is not None:
        key = ("in_order", resource.plural, ctx.access.shape, action)
        statement = ctx.kernel.statement(key, lambda: _in_order(ctx, resource, action))
        await ctx.fetch(statement, {**ctx.access.values, "ids": bound(ids)})


def _in_order(ctx: Context, resource: Resource, action: str) -> Statement:
    table = resource.table
    gate = ctx.kernel.policy.gate(ctx.access, resource, action, table)
    wanted = table.c.id == sa.any_(sa.bindparam("ids", type_=ARRAY(sa.Uuid())))
    rows = sa.select(table.c.id).where(sa.cast(wanted, sa.Boolean), *gate)
    return Statement(rows.order_by(table.c.id).with_for_update(key_share=True))


def as_seen(table: sa.Table) -> sa.ColumnElement[bool]:
    """That nobody wrote the row `id` while a statement waited for it: what they added to an index would be left there.

    The row is looked at anew after the wait, but whatever else the statement reads is as of its begin.
    """
    seen = table.alias("seen")
    mine = seen.c.tenant_id == TENANT, seen.c.id == sa.bindparam("id", type_=sa.Uuid())
    return sa.cast(table.c.version == sa.select(seen.c.version).where(*mine).scalar_subquery(), sa.Boolean)
