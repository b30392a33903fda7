"""Turns: whose is next, and that others come in between."""

from __future__ import annotations

import asyncio

from rig import until

from tunnel_server.adapters.proxy.http2.turns import Turns, turns_of


async def test_turns_are_given_one_by_one_as_they_were_asked_for_and_the_loop_goes_on_between() -> None:
    loop = asyncio.get_running_loop()
    turns, log = Turns(loop), list[str]()

    def busy(name: str, left: int) -> None:
        log.append(name)
        if left:
            turns.ask(lambda: busy(name, left - 1))

    def other() -> None:
        log.append("-")
        if len(log) < 12:
            loop.call_soon(other)

    for name in "abc":
        turns.ask(lambda name=name: busy(name, 1))  # type: ignore[misc]
    loop.call_soon(other)
    await until(lambda: len(log) >= 12)

    assert "".join(log) == "a-b-c-a-b-c-"


async def test_a_loop_has_turns_of_its_own() -> None:
    turns = turns_of(asyncio.get_running_loop())

    assert turns is turns_of(asyncio.get_running_loop())
    loop = asyncio.new_event_loop()
    assert turns is not turns_of(loop)
    loop.close()
