"""Bounds how often somebody guesses: failures of a client or person, counted by each process for itself."""

import time
from collections import defaultdict, deque
from collections.abc import Hashable

_MOST_KEYS = 50_000


class Throttle:
    """At most `most` failures within `seconds`, for each key."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._failures: dict[Hashable, deque[float]] = defaultdict(deque)

    def wait(self, key: Hashable) -> int:
        """Seconds until the next attempt; 0 for now."""
        times = self._failures.get(key)
        if times is None:
            return 0
        now = time.monotonic()
        while times and times[0] <= now - self._seconds:
            times.popleft()
        if not times:
            del self._failures[key]
        return 0 if len(times) < self._most else int(times[0] + self._seconds - now) + 1

    def failed(self, key: Hashable) -> None:
        """Notes a failure."""
        if len(self._failures) >= _MOST_KEYS:
            self._failures.clear()
        self._failures[key].append(time.monotonic())
