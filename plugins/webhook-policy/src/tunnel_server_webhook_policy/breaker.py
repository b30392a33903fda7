"""A circuit breaker: an endpoint that fails is left alone for a while."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, IntEnum, auto


class State(IntEnum):
    """Whether the endpoint is asked; the numbers are those of the metric."""

    CLOSED = 0  # yes
    HALF_OPEN = 1  # one question at a time, to see whether it is back
    OPEN = 2  # no


class Ticket(Enum):
    """Leave to ask one question."""

    USUAL = auto()
    PROBE = auto()  # it finds out whether the endpoint is back


class Breaker:
    """Opens after ``limit`` failures in a row, or when half of the last ``4 * limit`` questions failed.

    ``pause`` seconds later one question is let through: answered, it closes; failed, it opens again. ``clock`` gives
    seconds that never go back.
    """

    def __init__(self, limit: int, pause: float, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._pause = pause
        self._clock = clock
        self._in_a_row = 0
        self._last: deque[bool] = deque(maxlen=4 * limit)
        self._opened_at: float | None = None
        self._probing = False

    @property
    def state(self) -> State:
        """Where it stands now."""
        if self._opened_at is None:
            return State.CLOSED
        return State.HALF_OPEN if self._clock() - self._opened_at >= self._pause else State.OPEN

    @property
    def retry_after(self) -> int:
        """Whole seconds until a question may pass, one at least."""
        left = 0.0 if self._opened_at is None else self._opened_at + self._pause - self._clock()
        return max(1, int(left) + 1)

    def enter(self) -> Ticket | None:
        """Return leave to ask, or ``None``; each ticket is handed back to :meth:`leave`, once."""
        match self.state:
            case State.CLOSED:
                return Ticket.USUAL
            case State.HALF_OPEN if not self._probing:
                self._probing = True
                return Ticket.PROBE
            case _:
                return None

    def leave(self, ticket: Ticket, failed: bool | None) -> None:
        """Note how a question ended; ``None`` if nothing can be told from it."""
        if ticket is Ticket.PROBE:
            self._probing = False
        elif self._opened_at is not None:
            return  # it was asked before: what came of it is old news
        if failed is None:
            return
        self._last.append(failed)
        self._in_a_row = self._in_a_row + 1 if failed else 0
        if failed and (ticket is Ticket.PROBE or self._is_bad()):
            self._opened_at = self._clock()
        elif ticket is Ticket.PROBE:
            self._opened_at = None
            self._last.clear()

    def _is_bad(self) -> bool:
        full = len(self._last) == self._last.maxlen
        return self._in_a_row >= self._limit or (full and 2 * sum(self._last) >= len(self._last))
