"""What one HTTP/2 connection may have and do; see :class:`tunnel_server.adapters.proxy.limits.Limits` for the rest."""

from __future__ import annotations

from h2.errors import ErrorCodes

MAX_STREAMS = 100  # exchanges under way at once, those included that were reset while a channel was opened for them
FRAME = 16 * 1024  # octets of a frame's payload, either way: the least that RFC 9113 §4.2 allows to set
STREAM_WINDOW = 64 * 1024  # octets a visitor may send ahead on a stream whose service takes nothing
LARGEST_WINDOW = 1024 * 1024  # octets; a stream's window grows to this while its service takes all that comes
SPARE_WINDOW = 2 * 1024 * 1024  # octets by which all windows of a connection may have grown
CONNECTION_WINDOW = 2 * 1024 * 1024  # octets under way; given back at once, so that no stream can use it up
ANSWERS = 1024 * 1024  # octets of answers kept for a visitor who is slow; a stream has no more than are left
LEAST_ANSWER = 16 * 1024  # octets of an answer that are kept all the same, before its channel is paused
WRITE_BUFFER = 64 * 1024  # octets in the transport before DATA waits: small answers wait behind these
UNTAKEN = 256 * 1024  # octets in the transport, of frames that do not wait, before no more is read
PUMPED = 256 * 1024  # octets of DATA written in one turn
TURN = 0.002  # seconds a connection's frames may keep the loop; then others have their turn
LINGER = 2.0  # seconds a visitor has to take the reason why its connection ends
CONTINUATIONS = 32  # frames of one field block; h2 would take 64 of any size

IDLE_FRAMES = (1000, 200)  # frames that move nothing, at once and in a second; useful ones earn more
RESETS = (200, 40)  # streams that end by a reset, at once and in a second
SETTINGS = (20, 1)  # SETTINGS frames, at once and in a second


class Violation(Exception):
    """The visitor breaks the protocol, or asks too much: its connection ends with ``code``."""

    def __init__(self, code: ErrorCodes, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class StreamViolation(Exception):
    """As :class:`Violation`, but only the stream ends."""

    def __init__(self, code: ErrorCodes, reason: str, stream_id: int = 0) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.stream_id = stream_id


class Budget:
    """What a visitor may do ``burst`` times at once and ``rate`` times in a second (a token bucket)."""

    __slots__ = ("_burst", "_left", "_of_what", "_rate", "_since")

    def __init__(self, of_what: str, burst_and_rate: tuple[int, int]) -> None:
        self._of_what = of_what
        self._burst, self._rate = burst_and_rate
        self._left = float(self._burst)
        self._since = 0.0

    def earn(self, times: float) -> None:
        """Allow ``times`` more, up to the burst."""
        self._left = min(self._burst, self._left + times)

    def spend(self, now: float) -> None:
        """Count one, at loop time ``now``.

        Raises:
            Violation: ENHANCE_YOUR_CALM; there were too many.
        """
        self._left = min(self._burst, self._left + (now - self._since) * self._rate) - 1
        self._since = now
        if self._left < 0:
            raise Violation(ErrorCodes.ENHANCE_YOUR_CALM, f"too many {self._of_what}")
