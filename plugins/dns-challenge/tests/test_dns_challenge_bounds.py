"""What one network gets, and what all together take of the server's time."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import pytest
from tunnel_server_dns_challenge.rates import BURST, MAX_NETWORKS, PER_SECOND, Grant, Rates, network
from tunnel_server_dns_challenge.turns import CREDIT, SHARE, Turns


class Clock:
    """Stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_network_gets_so_many_answers_then_short_ones_then_none() -> None:
    clock = Clock()
    rates = Rates(clock)

    grants = [rates.take("192.0.2.7") for _ in range(int(BURST) * 3)]

    assert grants == [Grant.WHOLE] * int(BURST) + [Grant.SHORT] * int(BURST) + [Grant.NONE] * int(BURST)
    assert rates.take("192.0.2.250") is Grant.NONE  # of the same network
    assert rates.take("192.0.3.7") is Grant.WHOLE


def test_a_network_that_never_stops_gets_short_answers_at_the_rate() -> None:
    clock = Clock()
    rates = Rates(clock)
    for _ in range(1000):
        rates.take("192.0.2.7")

    got: Counter[Grant] = Counter()
    for step in range(10_000):
        clock.now = step / 1000
        got[rates.take("192.0.2.7")] += 1

    assert got[Grant.WHOLE] == 0
    assert got[Grant.SHORT] == pytest.approx(10 * PER_SECOND, abs=2)
    clock.now += 2 * BURST / PER_SECOND
    assert rates.take("192.0.2.7") is Grant.WHOLE


def test_networks_are_forgotten_before_there_are_too_many() -> None:
    rates = Rates(Clock())
    for number in range(MAX_NETWORKS + 500):
        rates.take(f"10.{number >> 8}.{number & 255}.1")

    assert len(rates._left) == MAX_NETWORKS


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.254", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8:0:100::1", "2001:db8:0:1ff::1", True),
        ("2001:db8:0:100::1", "2001:db8:0:200::1", False),
        ("fe80::1%lo", "fe80::2", True),
    ],
)
def test_a_network_is_24_bits_or_56(one: str, other: str, same: bool) -> None:
    assert (network(one) == network(other)) is same


async def test_work_takes_its_share_of_the_time_and_no_more() -> None:
    clock = Clock()

    async def sleep(seconds: float) -> None:
        clock.now += seconds

    turns = Turns(clock, sleep)
    worked = 0.0
    for _ in range(1000):
        async with turns.turn():
            clock.now += 0.0007
            worked += 0.0007

    assert worked == pytest.approx(SHARE * clock.now, rel=0.01)


async def test_work_that_fails_takes_its_share_too() -> None:
    clock, slept = Clock(), []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    turns = Turns(clock, sleep)
    for _ in range(2):
        with contextlib.suppress(RuntimeError):
            async with turns.turn():
                clock.now += 1.0
                raise RuntimeError

    assert slept == [pytest.approx(1.0 / SHARE - 1.0)]


async def test_turns_are_one_after_the_other() -> None:
    clock, inside, most = Clock(), 0, 0

    async def sleep(seconds: float) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        clock.now += seconds
        inside -= 1

    turns = Turns(clock, sleep)

    async def work() -> None:
        async with turns.turn():
            clock.now += 1.0

    await asyncio.gather(*(work() for _ in range(5)))
    assert most == 1


async def test_a_single_question_waits_for_nothing() -> None:
    clock = Clock()

    async def sleep(seconds: float) -> None:
        raise AssertionError

    turns = Turns(clock, sleep)
    for _ in range(3):
        async with turns.turn():
            clock.now += CREDIT * SHARE / 4
