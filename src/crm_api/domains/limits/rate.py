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
        self.due = min(max(self.due, now) + cost * self.interval, now + WINDOWS * self.window)

    def left(self, now: float) -> int:
        """Requests that fit now."""
        return max(math.floor((self.window - max(self.due - now, 0.0)) / self.interval + _DUST), 0)

    def more(self, now: float) -> int:
        """Whole seconds until more of the quota is there than now; 0 when all of it is."""
        if self.due <= now:
            return 0
        return max(math.ceil(self.wait(now)), 1)


_DUST = 1e-7
"""Seconds, and parts of a request, by which sums of floating point numbers may be wrong."""
