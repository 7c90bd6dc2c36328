"""Loops beside requests that outlive any error."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog

from crm_api.kernel.problems import from_database

log = structlog.get_logger("crm_api.worker")
MOST_PATIENCE = 5.0
"""Seconds to wait after repeated errors, at most."""
_LAST_SECONDS = 10.0


@asynccontextmanager
async def beside(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs loops while the block runs; then they are cancelled, and get some seconds to end as they should."""
    running = [asyncio.create_task(loop) for loop in loops]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=_LAST_SECONDS)


async def every(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    """Runs work again and again until cancelled; an error is logged and the next round comes all the same."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - the loop must outlive whatever the database does
            complain(_name(work), error)


async def drain(work: Callable[[], Awaitable[bool]], *, idle: float, wake: asyncio.Event | None = None) -> None:
    """Runs work until cancelled: at once while it says that more is left, else after `idle` seconds or when woken.

    Args:
        work: one bounded step; it gives whether another should follow at once.
        idle: seconds between looks when there is nothing to do. After errors the pause doubles, up to 5 seconds.
        wake: set by whoever knows of new work in this process.
    """
    patience = idle
    while True:
        more = False
        try:
            more = await work()
            patience = idle
        except Exception as error:  # noqa: BLE001 - the loop must outlive whatever the database does
            patience = min(max(patience * 2, 0.1), MOST_PATIENCE)
            complain(_name(work), error)
            await asyncio.sleep(patience)
            continue
        if more:
            await asyncio.sleep(0)
        elif wake is None:
            await asyncio.sleep(idle)
        else:
            try:
                async with asyncio.timeout(idle):  # `wait_for` of Python 3.11 loses a cancellation that meets the bell
                    await wake.wait()
            except TimeoutError:
                continue
            wake.clear()


def complain(work: str, error: Exception) -> None:
    """Logs that a round of some work failed; with the traceback, unless the database is away or busy."""
    passing = from_database(error, {}) is not None
    log.warning("work_failed", work=work, error=type(error).__name__, exc_info=None if passing else error)


def _name(work: Any) -> str:
    return str(
        getattr(work, "__qualname__", None) or getattr(getattr(work, "func", None), "__qualname__", None) or work
    )
