"""Waits for what a server does later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

LIMIT = 10.0  # seconds
LOOK = 0.01  # seconds between looks

T = TypeVar("T")


async def until(condition: Callable[[], T], limit: float = LIMIT) -> T:
    """Return the condition's value once it is true; it is looked at every 10 ms.

    Raises:
        TimeoutError: it was not within ``limit`` seconds.
    """
    async with asyncio.timeout(limit):
        while not (value := condition()):
            await asyncio.sleep(LOOK)
        return value
