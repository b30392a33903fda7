"""When the forges are asked: again and again, and out of turn for a key that nobody knows, within bounds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic

import structlog

WAIT = 3.0  # seconds a client waits for a round that may know its key; less than hooks may take
RETRY = 15.0  # seconds until another try after a round that was not complete, twice as long each time
JITTER = 0.1  # of the interval, so that many servers do not ask at once
MAX_UNKNOWN = 1000  # keys remembered as unknown

log = structlog.get_logger()


class Rounds:
    """Runs ``refresh``, one at a time. ``interval`` and ``recheck`` are in seconds; a ``recheck`` of 0 is never.

    A key that nobody knows may start one round, if ``recheck`` has passed since the last; the same key another one
    after twice that time, and so on up to the interval.
    """

    def __init__(self, refresh: Callable[[], Awaitable[bool]], interval: float, recheck: float) -> None:
        self._refresh = refresh
        self._interval = interval
        self._recheck = recheck
        self._free_at = 0.0
        self._failed = 0
        self._running = False
        self._wake = asyncio.Event()
        self._finished = asyncio.Event()
        self._unknown: dict[str, tuple[int, float]] = {}

    @property
    def busy(self) -> bool:
        """Whether a round is running, or about to."""
        return self._running or self._wake.is_set()

    async def run(self) -> None:
        """Go on for ever. An error counts as a round that was not complete."""
        while True:
            await self._once()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._delay()):
                    await self._wake.wait()

    async def finished(self, limit: float) -> bool:
        """Wait for the end of the round that runs or comes next; return whether it came within ``limit`` seconds."""
        event = self._finished
        with suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await event.wait()
        return event.is_set()

    async def look_again(self, key: str) -> bool:
        """Wait for a round that may know ``key``, and start one if that is allowed; return whether it is over now."""
        if not self._may_wait(key, monotonic()):
            return False
        if not self.busy:
            self._wake.set()
        return await self.finished(WAIT)

    def _may_wait(self, key: str, now: float) -> bool:
        """Tell whether it is ``key``'s turn, and note when its next one is."""
        times, next_at = self._unknown.pop(key, (0, 0.0))
        allowed = self._recheck > 0 and now >= next_at and (self.busy or now >= self._free_at)
        if allowed:
            times, next_at = times + 1, now + min(self._recheck * 2.0 ** min(times, 30), self._interval)
        if times:
            self._unknown[key] = times, next_at
        if len(self._unknown) > MAX_UNKNOWN:
            del self._unknown[next(iter(self._unknown))]  # whose turn was the longest ago
        return allowed

    async def _once(self) -> None:
        self._wake.clear()
        self._running = True
        try:
            complete = await self._refresh()
        except Exception:
            log.exception("github-keys.round-failed")
            complete = False
        self._failed = 0 if complete else self._failed + 1
        self._free_at = monotonic() + self._recheck
        self._running = False
        finished, self._finished = self._finished, asyncio.Event()
        finished.set()

    def _delay(self) -> float:
        delay = self._interval
        if self._failed:
            delay = min(delay, RETRY * 2.0 ** min(self._failed - 1, 30))
        return delay * random.uniform(1 - JITTER, 1 + JITTER)
