"""Connections that have not said enough yet to be anybody's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from time import perf_counter
from typing import Protocol, Self

import structlog

from tunnel_server.domain.crowd import Crowd

LOOK = 0.2  # seconds between looks at the time limits
SLICE = 0.002  # seconds of one turn of the loop: thousands may be overdue at once, and become SSH clients

log = structlog.get_logger()


class Guest(Protocol):
    """A connection in the lobby; ``deadline`` is the loop time at which ``overdue`` is called."""

    deadline: float

    def __hash__(self) -> int:
        """Return what tells guests apart."""

    def overdue(self) -> None:
        """The deadline passed."""

    def abort(self) -> None:
        """Go at once: another took the place, or the server stops."""


class Lobby:
    """Bounds the guests in number and in time, while entered. Leaving sends all of them away."""

    def __init__(self, capacity: int) -> None:
        self._guests: Crowd[Guest] = Crowd(capacity)
        self._look: asyncio.Task[None] | None = None

    def __contains__(self, guest: Guest) -> bool:
        return guest in self._guests

    def __len__(self) -> int:
        return len(self._guests)

    async def __aenter__(self) -> Self:
        self._look = asyncio.get_running_loop().create_task(self._watch())
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._look is not None
        self._look.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._look
        for guest in list(self._guests):
            guest.abort()

    def arrived(self, guest: Guest, visitor: str) -> None:
        """Count a guest in, at another's cost if need be; ``visitor`` is whose it is, as :func:`one_visitor` has it."""
        displaced = self._guests.add(guest, visitor)
        if displaced is not None:
            log.debug("connection.dropped", reason="too many that have not said what they are")
            displaced.abort()

    def left(self, guest: Guest) -> None:
        """A guest is known now, or gone. Safe to repeat."""
        self._guests.remove(guest)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK)
            now = loop.time()
            pause = perf_counter() + SLICE
            for guest in [guest for guest in self._guests if guest.deadline < now]:
                if guest in self._guests and guest.deadline < now:
                    _guarded(guest.overdue)
                if perf_counter() > pause:
                    await asyncio.sleep(0)
                    pause = perf_counter() + SLICE


def _guarded(call: Callable[[], None]) -> None:
    try:
        call()
    except Exception:
        log.exception("connection.failed")
