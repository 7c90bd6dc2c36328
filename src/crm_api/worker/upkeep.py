"""Housekeeping: what grows is cut back."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from crm_api.kernel.database import Database, Statement

_FORGET = Statement(
    sa.select(
        sa.func.forget_idempotency_keys(sa.bindparam("older_than", type_=sa.DateTime(timezone=True))).label("gone")
    )
)


async def forget_idempotency_keys(database: Database, days: int) -> int:
    """Deletes keys and replies older than `days` in every tenant; gives how many."""
    rows = await database.fetch(None, _FORGET, {"older_than": datetime.now(UTC) - timedelta(days=days)})
    return int(rows[0]["gone"])
