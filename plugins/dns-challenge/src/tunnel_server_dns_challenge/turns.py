"""Turns, so that questions, however many, leave the server its time for all else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

SHARE = 0.1  # of the time, at most
CREDIT = 0.02  # seconds of rest that may be owed: timers are no more exact than a millisecond


class Turns:
    """Lets one after the other work, all together for no more than a tenth of the time.

    ``clock`` gives seconds that never go back, ``sleep`` waits for some.
    """

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._lock = asyncio.Lock()
        self._paid = 0.0  # until when the work done so far has to last

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn; what is done within awaits nothing."""
        async with self._lock:
            began = self._clock()
            if self._paid - began > CREDIT:
                await self._sleep(self._paid - began)
                began = self._clock()
            try:
                yield
            finally:
                self._paid = max(self._paid, began) + (self._clock() - began) / SHARE
