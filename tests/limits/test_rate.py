"""The arithmetic of a meter, against a bucket of tokens counted in fractions."""

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crm_api.domains.limits.rate import WINDOWS, Meter

STEPS = st.lists(st.tuples(st.integers(0, 4096), st.integers(1, 40)), max_size=60)
"""(1024ths of a second that pass, requests that are tried then)."""


class Bucket:
    """Holds up to `quota` tokens, which come back evenly within `window` seconds."""

    def __init__(self, quota: int, window: int) -> None:
        self.quota, self.window, self.tokens = quota, window, Fraction(quota)

    def passes(self, seconds: Fraction) -> None:
        self.tokens = min(self.tokens + seconds * self.quota / self.window, Fraction(self.quota))

    def takes(self) -> bool:
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@given(st.integers(1, 300), st.integers(1, 60), STEPS)
@example(3, 1, [(0, 4), (341, 1), (1, 1)])
def test_it_lets_in_what_a_bucket_of_tokens_does(quota, window, steps):
    meter, bucket, now = Meter(quota, window), Bucket(quota, window), Fraction(1000)
    for passed, tries in steps:
        now += Fraction(passed, 1024)
        bucket.passes(Fraction(passed, 1024))
        for _ in range(tries):
            near = abs(bucket.tokens - 1) < Fraction(1, 1000)  # there floating point numbers may say either
            lets_in = meter.wait(float(now)) <= 0
            if near and lets_in != (bucket.tokens >= 1):
                return
            assert lets_in == (bucket.tokens >= 1)
            assert (
                near or meter.standing(float(now))[0] == bucket.tokens // 1 or bucket.tokens % 1 > Fraction(999, 1000)
            )
            if bucket.takes():
                meter.take(float(now))


@given(st.integers(1, 300), st.integers(1, 60), st.integers(1, 5000))
def test_after_the_wait_that_it_tells_a_request_fits_and_before_it_does_not(quota, window, cost):
    meter = Meter(quota, window)
    meter.take(100.0, quota)
    meter.take(100.0, cost)
    wait = meter.wait(100.0)
    assert 0 < wait <= WINDOWS * window
    assert meter.standing(100.0)[0] == 0
    assert meter.standing(100.0)[1] >= wait
    assert meter.wait(100.0 + wait + 1e-6) <= 0
    assert meter.wait(100.0 + wait * 0.999 - 1e-6) > 0


@given(st.floats(-1e9, 1e9), st.integers(0, 500))
def test_a_clock_that_jumps_makes_nobody_wait_longer_than_two_windows(jump, used):
    meter = Meter(100, 2)
    meter.take(1e9, used)
    assert meter.wait(1e9 + jump) <= WINDOWS * meter.window
    assert 0 <= meter.standing(1e9 + jump)[0] <= meter.quota
    assert meter.wait(1e9 + jump + WINDOWS * meter.window) <= 0


@given(st.integers(0, 500), st.floats(0.05, 500), st.integers(1, 50))
def test_parts_of_requests_that_are_used_come_back_later_and_never_too_late(used, part, times):
    meter = Meter(100, 2)
    meter.take(100.0, used)
    before = meter.ahead(100.0)
    for _ in range(times):
        meter.take(100.0, part)
    assert meter.used == pytest.approx(used + times * part)
    assert meter.ahead(100.0) == pytest.approx(min(before + times * part * meter.interval, WINDOWS * meter.window))
    assert not meter.standing(100.0 + WINDOWS * meter.window)[1]


def test_what_was_told_and_given_back_makes_what_is_used_later_no_older():
    meter = Meter(20, 2)
    meter.take(100.0, 9)
    meter.used = 0  # it was told
    meter.take(100.5, -8)
    meter.take(200.0)
    assert (meter.since, meter.used, meter.standing(200.0)) == (200.0, -7, (19, 1))


def test_an_unused_meter_is_full_at_any_time():
    for now in (0.0, 1e9):
        meter = Meter(7, 3)
        assert meter.standing(now) == (7, 0)
