"""Ends offers whose last day is over."""

import sqlalchemy as sa

from crm_api.domains.quotes.quote import QUOTES
from crm_api.domains.selling.document import today
from crm_api.kernel.context import Context, Kernel
from crm_api.kernel.everywhere import due, each
from crm_api.kernel.problems import NOT_FOUND, TRANSITION_REFUSED, Problem
from crm_api.kernel.writes import run_edge

_AT_ONCE = 500
_OUTDATED = due(
    sa.func.outdated_quotes(sa.bindparam("day", type_=sa.Date()), sa.bindparam("most", type_=sa.BigInteger()))
)


async def expire_outdated(kernel: Kernel) -> int:
    """Expires what was sent and not answered in time, in every tenant; gives how many. Raises as `each` does."""
    expired = 0
    while True:
        rows = await kernel.database.fetch(None, _OUTDATED, {"day": today(), "most": _AT_ONCE})
        now = await each(kernel, rows, "schedule", _expire)
        expired += now
        if len(rows) < _AT_ONCE or not now:
            return expired


async def _expire(ctx: Context, id_: str) -> int:
    try:
        await run_edge(ctx, QUOTES, id_, "expire")
    except Problem as problem:
        if problem.kind in (TRANSITION_REFUSED, NOT_FOUND):  # somebody was faster
            return 0
        raise
    return 1
