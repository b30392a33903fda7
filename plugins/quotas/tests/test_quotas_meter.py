"""One meter: a token bucket and a count."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tunnel_server_quotas.limits import Pace
from tunnel_server_quotas.meter import BUSY, Meter


def taken_at_once(meter: Meter, pace: Pace, now: float) -> int:
    count = 0
    while meter.wait(pace, now) <= 0:
        meter.take(pace, now)
        meter.end()
        count += 1
    return count


@pytest.mark.parametrize("per_second", [0.1, 1 / 3, 3.0, 7.0, 1000.0])
@pytest.mark.parametrize("burst", [1, 3, 500])
def test_a_full_bucket_gives_its_burst_and_no_more(per_second: float, burst: int) -> None:
    assert taken_at_once(Meter(), Pace(per_second, burst), now=123_456.789) == burst


def test_a_token_comes_back_each_interval() -> None:
    meter, pace = Meter(), Pace(4.0, 2)
    taken_at_once(meter, pace, now=100.0)

    assert meter.wait(pace, 100.0) == pytest.approx(0.25, abs=0.001)
    assert taken_at_once(meter, pace, now=100.25) == 1
    assert taken_at_once(meter, pace, now=1000.0) == 2


def test_more_than_may_run_are_busy_until_one_ends() -> None:
    meter, pace = Meter(), Pace(concurrent=2)
    meter.take(pace, 0.0)
    meter.take(pace, 0.0)

    assert meter.wait(pace, 0.0) == BUSY

    meter.end()
    assert meter.wait(pace, 0.0) <= 0


def test_what_is_given_back_can_be_taken_again() -> None:
    meter, pace = Meter(), Pace(1.0, 1)
    meter.take(pace, 50.0)
    meter.end()

    meter.give_back(pace)

    assert taken_at_once(meter, pace, now=50.0) == 1


def test_a_meter_is_idle_when_it_is_full_and_nothing_runs() -> None:
    meter, pace = Meter(), Pace(1.0, 3)
    assert meter.idle(0.0)

    meter.take(pace, 10.0)
    assert not meter.idle(11.0)  # it is full, but the request runs

    meter.end()
    assert not meter.idle(10.5)
    assert meter.idle(11.0)


@settings(max_examples=200, deadline=None)
@given(
    per_second=st.floats(0.01, 1000),
    burst=st.integers(1, 50),
    pauses=st.lists(st.floats(0, 30), max_size=200),
)
def test_it_gives_what_a_bucket_of_tokens_gives(per_second: float, burst: int, pauses: list[float]) -> None:
    meter, pace = Meter(), Pace(per_second, burst)
    now, tokens = 5000.0, float(burst)
    for pause in pauses:
        now += pause
        tokens = min(float(burst), tokens + pause * per_second)
        gives = meter.wait(pace, now) <= 0
        if abs(tokens - 1) > 0.01:  # nearer than this, rounding may say either
            assert gives == (tokens >= 1)
        if gives:
            meter.take(pace, now)
            meter.end()
            tokens = max(0.0, tokens - 1)
