"""The throttle of an endpoint: its requests one by one, at even distances."""

import asyncio
from dataclasses import dataclass


@dataclass(slots=True)
class Pace:
    """Lets `rate` requests go in a second, none before its time; all at once where that is None.

    A batch of claimed deliveries is sent at these distances, and `claim_deliveries` leaves as much time to the next
    one, so that no second, wherever it begins, has more.
    """

    rate: int | None
    free_at: float = 0.0

    async def turn(self) -> None:
        """Waits for the next place."""
        if self.rate is not None:
            now = asyncio.get_running_loop().time()
            mine = max(now, self.free_at)
            self.free_at = mine + 1 / self.rate
            await asyncio.sleep(mine - now)
