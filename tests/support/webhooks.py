"""The webhook worker, for as long as there is something due."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from crm_api.domains.integrations.deliver import Deliverer
from crm_api.domains.integrations.dispatch import dispatch
from crm_api.kernel import feed


@asynccontextmanager
async def _deliverer(server: Any) -> AsyncIterator[Deliverer]:
    """A worker of its own, which leaves no connection behind."""
    try:
        yield Deliverer(server.kernel, server.egress, server.settings.webhook_lease)
    finally:
        server.egress.waiting.close()


async def work(server: Any) -> None:
    """Moves events into the feed, hands them to endpoints, and sends what is due, until nothing is."""
    async with _deliverer(server) as deliverer:
        while any(await feed.sequence(server.kernel)) or any(await dispatch(server.kernel)) or await deliverer.step():
            await deliverer.stop(30)


async def send_due(server: Any) -> None:
    """Sends what is due, without looking for new events."""
    async with _deliverer(server) as deliverer:
        while await deliverer.step():
            await deliverer.stop(30)
            await asyncio.sleep(0)


async def send_for(server: Any, seconds: float) -> None:
    """Runs as the worker does, without waiting for what is under way, for a time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    async with _deliverer(server) as deliverer:
        while loop.time() < end:
            moved = (*await feed.sequence(server.kernel), *await dispatch(server.kernel), await deliverer.step())
            await asyncio.sleep(0 if any(moved) else 0.02)
        await deliverer.stop(30)
