"""Waiting for a tenant's feed to grow: one look every 50 ms for all who wait in this process."""

import asyncio

from crm_api.kernel import feed
from crm_api.kernel.context import Context

SECONDS = 0.05


class _Pulse:
    """Looks at the end of one feed while anybody waits for it."""

    def __init__(self) -> None:
        self.seq = -1
        self.waiting = 0
        self.grown = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def beat(self, ctx: Context) -> None:
        while self.waiting:
            try:
                seq = (await feed.head(ctx)).seq
            except Exception:  # noqa: BLE001 - who waits learns of a lost database when they read
                await asyncio.sleep(SECONDS * 10)
                continue
            if seq != self.seq:
                self.seq = seq
                self.grown.set()
                self.grown = asyncio.Event()
            await asyncio.sleep(SECONDS)


async def grows(ctx: Context, beyond: int, seconds: float) -> bool:
    """Waits until the feed of the caller's tenant is longer than `beyond`; False when it is not after `seconds`."""
    pulses = ctx.kernel.pulses
    pulse: _Pulse = pulses.setdefault(ctx.principal.tenant_id, _Pulse())
    pulse.waiting += 1
    try:
        if pulse.task is None or pulse.task.done():
            pulse.task = asyncio.create_task(pulse.beat(ctx))
        async with asyncio.timeout(seconds):
            while pulse.seq <= beyond:
                await pulse.grown.wait()
    except TimeoutError:
        return False
    finally:
        pulse.waiting -= 1
        if not pulse.waiting:
            pulses.pop(ctx.principal.tenant_id, None)
    return True
