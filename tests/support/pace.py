"""Asks as often as a limit lets one, so that for nearly a second nothing more is let in."""

import time
from collections.abc import Callable

import httpx2

_PAUSE = 0.12
"""Seconds between two refusals, of which ten a second are answered at once."""


def exhausted(ask: Callable[[], httpx2.Response]) -> tuple[httpx2.Response, int]:
    """Asks until refused, and again as soon as one more is let in. Gives the last refusal, and how many were let in.

    After the first refusal the next request may be let in at any time. After one that was let in as soon as it could
    be, the next has to wait for nearly a second at a rate of 1.
    """
    _, taken = _refused(ask)
    until = time.monotonic() + 10
    while ask().status_code == 429:
        assert time.monotonic() < until, "nothing comes back"
        time.sleep(_PAUSE)
    refusal, more = _refused(ask)
    return refusal, taken + 1 + more


def _refused(ask: Callable[[], httpx2.Response]) -> tuple[httpx2.Response, int]:
    taken = 0
    while (answer := ask()).status_code != 429:
        assert answer.status_code in (200, 400), answer.text
        taken += 1
        assert taken <= 200, "no limit"
    return answer, taken
