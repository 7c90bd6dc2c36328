"""Reminds approvers of what waits for them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from crm_api.kernel.context import Context, Kernel
from crm_api.kernel.everywhere import due, each
from crm_api.kernel.parts import items_of
from crm_api.kernel.repository import load, update

MOST_REMINDERS = 10
_AT_ONCE = 200
_DUE = due(
    sa.func.due_approvals(
        sa.bindparam("at", type_=sa.DateTime(timezone=True)), sa.bindparam("most", type_=sa.BigInteger())
    )
)


async def remind(kernel: Kernel) -> int:
    """Tells of approvals that wait longer than their step allows, in every tenant; how many. Raises as `each` does."""
    rows = await kernel.database.fetch(None, _DUE, {"at": datetime.now(UTC), "most": _AT_ONCE})
    return await each(kernel, rows, "schedule", _remind)


async def _remind(ctx: Context, id_: str) -> int:
    approvals = ctx.kernel.catalog.resources["approvals"]
    row: Any = await load(ctx, approvals, id_, "update")
    if row["status"] != "pending" or row["remind_at"] is None or row["remind_at"] > ctx.now:
        return 0
    hours = items_of(row, "steps")[row["step"]]["remind_after_hours"]
    last = row["reminders"] + 1 >= MOST_REMINDERS
    values = {
        "reminders": row["reminders"] + 1,
        "remind_at": None if last else ctx.now + timedelta(hours=hours),
    }
    await update(ctx, approvals, id_, values, action="update", events=("updated", "reminded"), by_verb=True)
    return 1
