"""How fast somebody may ask: the generic cell rate algorithm (ITU-T I.371) as a virtual schedule."""

import math

WINDOWS = 2
"""Nobody waits longer than this many windows, whatever the clock does and however much is owed."""


class Meter:
    """Counts what one caller uses of `quota` requests in each `window` of seconds; all of it may be used at once.

    `due` is the second at which the whole quota is there again; the past means now. `used` is what the other processes
    were not told yet, used since the second `since`. Seconds are those of a monotonic clock.
    """

    __slots__ = ("__weakref__", "due", "interval", "quota", "since", "used", "window")

    def __init__(self, quota: int, window: int) -> None:
        self.quota = quota
        self.window = window
        self.interval = window / quota
        self.due = 0.0
        self.used = 0
        self.since = 0.0

    def wait(self, now: float) -> float:
        """Seconds until one more request fits; zero or less when it does now."""
        ahead = self.due - now
        if ahead <= 0:
            return 0.0
        if ahead > WINDOWS * self.window:
            ahead, self.due = WINDOWS * self.window, now + WINDOWS * self.window
        return ahead + self.interval - self.window - _DUST

    def take(self, now: float, cost: int = 1) -> None:
        """Uses some of the quota, more than is there too: what is owed then is waited for."""
        if not self.used:
            self.since = now
        self.used += cost
        due = (max(now, self.due)) + cost * self.interval
        self.due = min(now + WINDOWS * self.window, due)

    def standing(self, now: float) -> tuple[int, int]:
        """Requests that fit now, and whole seconds until more do; 0 when all of the quota is there."""
        ahead = self.due - now
        if ahead <= 0:
            return self.quota, 0
        left = int((self.window - ahead) / self.interval + _DUST)
        return (left, 1) if left > 0 else (0, max(math.ceil(self.wait(now)), 1))


_DUST = 1e-7
"""Seconds, and parts of a request, by which sums of floating point numbers may be wrong."""
