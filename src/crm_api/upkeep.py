"""What a server process does beside requests: loops that outlive any error."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
import structlog

from crm_api.kernel.database import Database, Statement

log = structlog.get_logger("crm_api.upkeep")
_FORGET = Statement(
    sa.select(
        sa.func.forget_idempotency_keys(sa.bindparam("older_than", type_=sa.DateTime(timezone=True))).label("gone")
    )
)


async def every(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    """Runs work again and again until cancelled; an error is logged and the next round comes all the same."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - the loop must outlive whatever the database does
            log.warning("upkeep_failed", work=getattr(work, "__qualname__", str(work)), error=type(error).__name__)


async def forget_idempotency_keys(database: Database, days: int) -> int:
    """Deletes keys and replies older than `days` in every tenant; gives how many."""
    rows = await database.fetch(None, _FORGET, {"older_than": datetime.now(UTC) - timedelta(days=days)})
    return int(rows[0]["gone"])
