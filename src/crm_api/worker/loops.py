"""Loops beside requests that outlive any error."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

log = structlog.get_logger("crm_api.worker")
MOST_PATIENCE = 5.0
"""Seconds to wait after repeated errors, at most."""


async def every(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    """Runs work again and again until cancelled; an error is logged and the next round comes all the same."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - the loop must outlive whatever the database does
            _complain(work, error)


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
            _complain(work, error)
            await asyncio.sleep(patience)
            continue
        if more:
            await asyncio.sleep(0)
        elif wake is None:
            await asyncio.sleep(idle)
        else:
            try:
                await asyncio.wait_for(wake.wait(), idle)
            except TimeoutError:
                continue
            wake.clear()


def _complain(work: Any, error: Exception) -> None:
    name = getattr(work, "__qualname__", None) or getattr(getattr(work, "func", None), "__qualname__", str(work))
    log.warning("work_failed", work=name, error=type(error).__name__)
