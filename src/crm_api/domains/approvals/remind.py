"""Reminds approvers of what waits for them."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from crm_api.kernel.context import Context, Kernel
from crm_api.kernel.database import Statement
from crm_api.kernel.parts import items_of
from crm_api.kernel.repository import load, update
from crm_api.kernel.unit_of_work import system, transact

MOST_REMINDERS = 10
_AT_ONCE = 200
_DUE = Statement(
    sa.select(
        sa.cast(sa.column("tenant_id"), sa.Text()).label("tenant"), sa.cast(sa.column("id"), sa.Text()).label("id")
    ).select_from(
        sa.func.due_approvals(
            sa.bindparam("at", type_=sa.DateTime(timezone=True)), sa.bindparam("most", type_=sa.BigInteger())
        ).table_valued("tenant_id", "id")
    )
)


async def remind(kernel: Kernel) -> int:
    """Tells of approvals that wait longer than their step allows, in every tenant, each in a transaction; how many.

    Raises:
        Exception: what went wrong with one of them, when all others were told of.
    """
    rows = await kernel.database.fetch(None, _DUE, {"at": datetime.now(UTC), "most": _AT_ONCE})
    failed: Exception | None = None
    for row in rows:
        try:
            await transact(system(kernel, UUID(row["tenant"]), "schedule"), partial(_remind, id_=row["id"]))
        except Exception as error:  # noqa: BLE001 - raised when the others are told of
            failed = error
    if failed is not None:
        raise failed
    return len(rows)


async def _remind(ctx: Context, id_: str) -> None:
    approvals = ctx.kernel.catalog.resources["approvals"]
    row: Any = await load(ctx, approvals, id_, "update")
    if row["status"] != "pending" or row["remind_at"] is None or row["remind_at"] > ctx.now:
        return
    hours = items_of(row, "steps")[row["step"]]["remind_after_hours"]
    last = row["reminders"] + 1 >= MOST_REMINDERS
    values = {
        "reminders": row["reminders"] + 1,
        "remind_at": None if last else ctx.now + timedelta(hours=hours),
    }
    await update(ctx, approvals, id_, values, action="update", events=("updated", "reminded"), by_verb=True)
