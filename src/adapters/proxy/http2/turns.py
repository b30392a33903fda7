"""Who has the loop next, of all connections that have more to handle than one turn lets them.

One of them has a turn, then the loop looks after everybody else, then the next one has its turn: so a request waits
for one turn only, however many connections are busy.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Turns:
    """The turns that are asked for on one loop, given first come, first served."""

    __slots__ = ("_asked", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asked: deque[Callable[[], None]] = deque()

    def ask(self, turn: Callable[[], None]) -> None:
        """Have ``turn`` called, after those asked for before; it may not raise."""
        self._asked.append(turn)
        if len(self._asked) == 1:
            self._loop.call_soon(self._give)

    def _give(self) -> None:
        turn = self._asked.popleft()
        if self._asked:
            self._loop.call_soon(self._give)
        turn()


_TURNS: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def turns_of(loop: asyncio.AbstractEventLoop) -> Turns:
    """Return the turns that all connections of ``loop`` share."""
    turns = _TURNS.get(loop)
    if turns is None:
        turns = _TURNS[loop] = Turns(loop)
    return turns
