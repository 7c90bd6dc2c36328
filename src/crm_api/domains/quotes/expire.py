"""Ends offers whose last day is over."""

from functools import partial
from uuid import UUID

import sqlalchemy as sa

from crm_api.domains.quotes.quote import QUOTES
from crm_api.domains.selling.document import today
from crm_api.kernel.context import Context, Kernel
from crm_api.kernel.database import Statement
from crm_api.kernel.problems import NOT_FOUND, TRANSITION_REFUSED, Problem
from crm_api.kernel.unit_of_work import system, transact
from crm_api.kernel.writes import run_edge

_AT_ONCE = 500
_OUTDATED = Statement(
    sa.select(
        sa.cast(sa.column("tenant_id"), sa.Text()).label("tenant"), sa.cast(sa.column("id"), sa.Text()).label("id")
    ).select_from(
        sa.func.outdated_quotes(
            sa.bindparam("day", type_=sa.Date()), sa.bindparam("most", type_=sa.BigInteger())
        ).table_valued("tenant_id", "id")
    )
)


async def expire_outdated(kernel: Kernel) -> int:
    """Expires what was sent and not answered in time, in every tenant, each in a transaction; gives how many.

    Raises:
        Exception: what went wrong with one of them, when all others are expired.
    """
    expired = 0
    failed: Exception | None = None
    while True:
        rows = await kernel.database.fetch(None, _OUTDATED, {"day": today(), "most": _AT_ONCE})
        now = 0
        for row in rows:
            try:
                now += await transact(system(kernel, UUID(row["tenant"]), "schedule"), partial(_expire, id_=row["id"]))
            except Exception as error:  # noqa: BLE001 - raised when the others are expired
                failed = error
        expired += now
        if len(rows) < _AT_ONCE or not now:
            break
    if failed is not None:
        raise failed
    return expired


async def _expire(ctx: Context, id_: str) -> int:
    try:
        await run_edge(ctx, QUOTES, id_, "expire")
    except Problem as problem:
        if problem.kind in (TRANSITION_REFUSED, NOT_FOUND):  # somebody was faster
            return 0
        raise
    return 1
