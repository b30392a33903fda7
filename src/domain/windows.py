"""How much the channels of one connection may send ahead (RFC 4254 §5.2), each and all together.

A window too small leaves a long link idle; one too large lets a download queue up before everybody else's small
answers. So a window starts small, and doubles only while the channel's rate and the link's round trip need it.
"""

from __future__ import annotations

from math import inf

START = 384 * 1024  # bytes; small answers beside a download wait for about this much
SMALLEST = 4 * 1024  # bytes a new channel gets when others hold nearly everything
LARGEST = 8 * 1024 * 1024  # bytes; fills 100 MB/s at 80 ms
LONG = 0.002  # seconds of a round trip from which on a window grows; below it the first one moves 200 MB/s
_SHARE = 128  # a new channel gets at most this part of what is left, so that many more fit


class Windows:
    """The receive windows of one connection.

    ``free`` is how many bytes of its limit are not promised to a channel. A window that was granted cannot be
    taken back before its bytes have come, so what a channel holds is given back only when it closes or has shrunk.
    """

    __slots__ = ("_for_new", "free", "round_trip")

    def __init__(self, limit: int) -> None:
        self.free = limit
        self._for_new = limit // 4  # of what is free, windows do not grow into this: new channels need it
        self.round_trip = inf  # seconds; the shortest seen, since a queue only makes it longer

    def measured(self, seconds: float) -> None:
        """Note how long an answer from the client took."""
        self.round_trip = min(self.round_trip, seconds)

    def open(self) -> int:
        """Return the window of a new channel, in bytes; 0 where the connection has no room for another."""
        window = min(START, self.free // _SHARE)
        if window < SMALLEST:
            window = SMALLEST if self.free >= SMALLEST else 0
        self.free -= window
        return window

    def close(self, window: int) -> None:
        """Take back the ``window`` of a channel that is gone."""
        self.free += window

    def next(self, window: int, left: int, seconds: float) -> int:
        """Return the window that follows ``window``, of which all but ``left`` bytes came within ``seconds``.

        It doubles, as far as there is room, when so much comes in one round trip that the channel waits for
        leave to send; it halves when an eighth would do, as after idling. ``left`` is less than half of ``window``.
        """
        if window < START or seconds <= 0 or not LONG <= self.round_trip < inf:
            return window
        needed = (window - left) * self.round_trip / seconds  # bytes under way at this rate
        if needed > window / 2:
            following = min(2 * window, LARGEST, window + max(0, self.free - self._for_new))
        elif needed < window / 8:
            following = max(START, window // 2)
        else:
            return window
        self.free -= following - window
        return following
