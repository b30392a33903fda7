"""Who waits at the door of the TLS port."""

from __future__ import annotations

import asyncio
from time import perf_counter

from rig import until

from tunnel_server.adapters.tls.lobby import SLICE, Lobby


class Guest:
    """One that takes some time to be sent on, and takes another guest with it."""

    deadline = 0.0

    def __init__(self, lobby: Lobby, companion: Guest | None = None) -> None:
        self._lobby = lobby
        self._companion = companion
        self.heard: list[str] = []

    def overdue(self) -> None:
        self.heard.append("overdue")
        self._lobby.left(self)
        if self._companion is not None:
            self._lobby.left(self._companion)
        until_when = perf_counter() + SLICE
        while perf_counter() < until_when:
            pass

    def abort(self) -> None:
        self.heard.append("abort")


async def test_the_loop_does_other_things_while_many_are_overdue() -> None:
    async with Lobby(100) as lobby:
        guests = [Guest(lobby) for _ in range(50)]
        for guest in guests:
            lobby.arrived(guest, "10.0.0.1")
        seen = set()

        def look() -> None:
            seen.add(len(lobby))
            if len(lobby):
                asyncio.get_running_loop().call_soon(look)

        look()
        await until(lambda: not len(lobby))

    assert len(seen) > 25
    assert all(guest.heard == ["overdue"] for guest in guests)


async def test_one_who_left_meanwhile_is_not_overdue() -> None:
    async with Lobby(10) as lobby:
        second = Guest(lobby)
        first = Guest(lobby, companion=second)
        lobby.arrived(first, "10.0.0.1")
        lobby.arrived(second, "10.0.0.1")
        await until(lambda: not len(lobby))

    assert (first.heard, second.heard) == (["overdue"], [])
