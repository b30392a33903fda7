from __future__ import annotations

import asyncio
from time import perf_counter

import pytest
from rig import until

from tunnel_server.adapters.tls.turns import SLICE, Turns


async def test_addresses_take_turns_however_much_one_asks_for() -> None:
    turns, done = Turns(), []
    for number in range(3):
        turns.add("flood", lambda number=number: done.append(f"flood {number}"))
    turns.add("other", lambda: done.append("other"))

    await until(lambda: len(done) == 4)

    assert done == ["flood 0", "other", "flood 1", "flood 2"]


async def test_the_loop_does_other_things_after_every_slice() -> None:
    turns, done, between = Turns(), [], []

    def step() -> None:
        started = perf_counter()
        while perf_counter() < started + SLICE:
            pass
        done.append(None)

    def look() -> None:
        between.append(len(done))
        if len(done) < 5:
            asyncio.get_running_loop().call_soon(look)

    for _ in range(5):
        turns.add("flood", step)
    look()
    await until(lambda: len(done) == 5)

    assert len(set(between)) >= 5


@pytest.mark.filterwarnings("ignore")
async def test_a_step_that_fails_stops_no_other() -> None:
    turns, done, failed = Turns(), [], []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failed.append(context["exception"]))

    def fail() -> None:
        raise RuntimeError("broken")

    turns.add("a", fail)
    turns.add("a", lambda: done.append(None))
    turns.add("b", lambda: done.append(None))

    await until(lambda: len(done) == 2)
    assert [str(error) for error in failed] == ["broken"]
