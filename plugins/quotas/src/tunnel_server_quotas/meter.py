"""How much one visitor, tunnel or key asked for lately."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunnel_server_quotas.limits import Pace

BUSY = inf  # what Meter.wait returns when too many requests run: nobody knows when one ends


class Meter:
    """A token bucket kept as one number, and a count of the requests that run.

    ``due`` is when the bucket is full again, in seconds of a monotonic clock; each request moves it one interval on
    (the virtual scheduling form of ITU-T I.371's GCRA). A meter that is idle is as good as a new one.
    """

    __slots__ = ("due", "running")

    def __init__(self) -> None:
        self.due = 0.0
        self.running = 0

    def wait(self, pace: Pace, now: float) -> float:
        """Return the seconds until a request may come: 0 or less is now, :data:`BUSY` if too many run."""
        if pace.concurrent and self.running >= pace.concurrent:
            return BUSY
        return self.due - now - pace.slack if pace.interval else 0.0

    def take(self, pace: Pace, now: float) -> None:
        """A request begins."""
        self.running += 1
        if pace.interval:
            # Quicker than max(), and this runs for every request.
            self.due = (self.due if self.due > now else now) + pace.interval  # noqa: FURB136

    def end(self) -> None:
        """A request ended."""
        self.running -= 1

    def give_back(self, pace: Pace) -> None:
        """A request that was taken does not count after all."""
        self.due -= pace.interval

    def idle(self, now: float) -> bool:
        """Whether nothing would change if this were forgotten."""
        return not self.running and self.due <= now
