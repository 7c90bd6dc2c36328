"""The way of events: from the outbox into the feed, from the feed to webhooks."""

import asyncio

from crm_api.adapters.egress import Egress
from crm_api.domains.integrations.deliver import BELL, Deliverer
from crm_api.domains.integrations.dispatch import dispatch
from crm_api.kernel import feed
from crm_api.kernel.context import WRITTEN, Kernel
from crm_api.settings import Settings
from crm_api.worker.loops import drain

POLL_SECONDS = 0.05
"""How soon a worker sees what another process has committed; its own process wakes it at once."""
BACKSTOP_SECONDS = 0.25
PACE_SECONDS = 0.02
"""Between two tries to move: what was committed meanwhile goes in one, and who finds another moving does not insist."""
GRACE_SECONDS = 5.0


async def sequence(kernel: Kernel) -> None:
    """Moves committed events into the feed, until cancelled."""

    async def step() -> bool:
        moved, more = await feed.sequence(kernel)
        if moved:
            kernel.bell(feed.BELL).set()
        await asyncio.sleep(PACE_SECONDS)
        return more

    await drain(step, idle=POLL_SECONDS, wake=kernel.bell(WRITTEN))


async def hand_over(kernel: Kernel) -> None:
    """Hands events of the feed to the endpoints that ask for them, until cancelled."""

    async def step() -> bool:
        handed, more = await dispatch(kernel)
        if handed:
            kernel.bell(BELL).set()
        return more

    await drain(step, idle=BACKSTOP_SECONDS, wake=kernel.bell(feed.BELL))


async def deliver(kernel: Kernel, settings: Settings) -> None:
    """Sends what is due, until cancelled; what is under way then gets some seconds to end."""
    egress = Egress.of(settings)
    deliverer = Deliverer(kernel, egress, settings.webhook_lease)
    try:
        await drain(deliverer.step, idle=BACKSTOP_SECONDS, wake=kernel.bell(BELL))
    finally:
        await deliverer.stop(GRACE_SECONDS)
        await egress.aclose()
