"""What should not happen. It is told, and ends nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import structlog

QUIET = 60.0  # seconds between two log lines on one part: peers may know how to bring a fault about
AGAIN = 1.0  # seconds until what ended begins again

log = structlog.get_logger()


class Faults:
    """Logs the faults of each part. ``clock`` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._quiet_until: dict[str, float] = {}
        self._unsaid: Counter[str] = Counter()

    def log(self, part: str, error: Exception) -> None:
        """Log the error, or count it if one of this part was logged lately."""
        now = self._clock()
        if now < self._quiet_until.get(part, now):
            self._unsaid[part] += 1
            return
        self._quiet_until[part] = now + QUIET
        log.error(
            "dns-challenge.failed", part=part, reason=repr(error), unsaid=self._unsaid.pop(part, 0), exc_info=error
        )

    async def keep(self, part: str, serve: Callable[[], Awaitable[None]]) -> None:
        """Run ``serve`` until cancelled: when it fails, log that and begin again."""
        while True:
            try:
                await serve()
            except Exception as error:
                self.log(part, error)
            await asyncio.sleep(AGAIN)
