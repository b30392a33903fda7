"""Work that many peers can ask for, in turns and in slices of time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter

SLICE = 0.002  # seconds of one turn of the loop


class Turns:
    """Runs one step after another, each address's in turn, and lets the loop do other things after every slice.

    A step is never cut short: a slice lasts as long as its last step.
    """

    def __init__(self) -> None:
        self._queues: dict[str, deque[Callable[[], None]]] = {}  # by address, whose turn it is first
        self._due = False

    def add(self, address: str, step: Callable[[], None]) -> None:
        """Run ``step`` soon, after what ``address`` asked for before."""
        queue = self._queues.get(address)
        if queue is None:
            self._queues[address] = deque((step,))
        else:
            queue.append(step)
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        deadline = perf_counter() + SLICE
        queues = self._queues
        try:
            while queues:
                address = next(iter(queues))
                queue = queues.pop(address)
                step = queue.popleft()
                if queue:
                    queues[address] = queue  # behind all others
                step()
                if perf_counter() > deadline:
                    break
        finally:
            self._due = bool(queues)
            if queues:
                asyncio.get_running_loop().call_soon(self._run)
