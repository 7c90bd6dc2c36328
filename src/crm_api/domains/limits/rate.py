"""How fast somebody may ask: the generic cell rate algorithm (ITU-T I.371) as a virtual schedule."""

import math

WINDOWS = 2
"""Nobody waits longer than this many windows, whatever the clock does and however much is owed."""


class Meter:
    """Counts what one caller uses of `quota` requests in each `window` of seconds; all of it may be used at once.

    `due` is the second at which the whole quota is there again; the past means now. `used` is what the other processes
    were not told yet, used since the second `since`; less than nothing is what they were told too much. Seconds are
    those of a monotonic clock. No more requests fit when `due` is more than `full` seconds ahead; it never is more than
    `most`.
    """

    __slots__ = ("__weakref__", "due", "full", "interval", "most", "quota", "since", "used", "window")

    def __init__(self, quota: int, window: int) -> None:
        self.quota = quota
        self.window = window
        self.interval = window / quota
        self.full = window - self.interval + _DUST
        self.most = float(WINDOWS * window)
        self.due = 0.0
        self.used: float = 0
        self.since = 0.0

    def ahead(self, now: float) -> float:
        """Seconds until the whole quota is there."""
        ahead = self.due - now
        if ahead <= 0:
            return 0.0
        if ahead > self.most:
            self.due = now + self.most
            return self.most
        return ahead

    def wait(self, now: float) -> float:
        """Seconds until one more request fits; zero or less when it does now, as while `due - now` is up to `full`."""
        return self.ahead(now) - self.full

    def take(self, now: float, cost: float = 1) -> int:
        """Uses some of the quota, more than is there too: what is owed then is waited for. Gives what is left.

        A cost below nothing is given back.
        """
        used = self.used
        if used <= 0:
            self.since = now
        self.used = used + cost
        ahead = self.due - now  # `ahead` written out: each request takes twice
        ahead = (ahead if ahead > 0 else 0.0) + cost * self.interval
        if ahead < self.window:
            self.due = now + ahead
            return int((self.window - ahead) / self.interval + _DUST)
        self.due = now + min(ahead, self.most)
        return 0

    def standing(self, now: float) -> tuple[int, int]:
        """Requests that fit now, and whole seconds until more do; 0 when all of the quota is there."""
        ahead = self.ahead(now)
        if not ahead:
            return self.quota, 0
        left = int((self.window - ahead) / self.interval + _DUST)
        return (left, 1) if left > 0 else (0, max(math.ceil(ahead - self.full), 1))


_DUST = 1e-7
"""Seconds, and parts of a request, by which sums of floating point numbers may be wrong."""
