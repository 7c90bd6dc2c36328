"""The webhook worker, for as long as there is something due."""

import asyncio
from typing import Any

from crm_api.adapters.egress import Egress
from crm_api.domains.integrations.deliver import Deliverer
from crm_api.domains.integrations.dispatch import dispatch
from crm_api.kernel import feed


async def work(server: Any) -> None:
    """Moves events into the feed, hands them to endpoints, and sends what is due, until nothing is."""
    egress = Egress.of(server.settings)
    deliverer = Deliverer(server.kernel, egress, server.settings.webhook_lease)
    try:
        while any(await feed.sequence(server.kernel)) or any(await dispatch(server.kernel)) or await deliverer.step():
            await deliverer.stop(30)
    finally:
        await egress.aclose()


async def send_due(server: Any) -> None:
    """Sends what is due, without looking for new events."""
    egress = Egress.of(server.settings)
    deliverer = Deliverer(server.kernel, egress, server.settings.webhook_lease)
    try:
        while await deliverer.step():
            await deliverer.stop(30)
            await asyncio.sleep(0)
    finally:
        await egress.aclose()


async def send_for(server: Any, seconds: float) -> None:
    """Runs as the worker does, without waiting for what is under way, for a time."""
    egress = Egress.of(server.settings)
    deliverer = Deliverer(server.kernel, egress, server.settings.webhook_lease)
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    try:
        while loop.time() < end:
            moved = (*await feed.sequence(server.kernel), *await dispatch(server.kernel), await deliverer.step())
            await asyncio.sleep(0 if any(moved) else 0.02)
        await deliverer.stop(30)
    finally:
        await egress.aclose()
