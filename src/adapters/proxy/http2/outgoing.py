"""What a stream has to send: kept in order until its turn comes and the windows allow it."""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING

from h2.errors import ErrorCodes

from tunnel_server.adapters.proxy.http2.limits import FRAME

if TYPE_CHECKING:
    from tunnel_server.adapters.proxy.http2.engine import Engine
    from tunnel_server.domain.forwarding import Field


class Sent(Enum):
    """What became of a turn."""

    SOME = auto()
    NOTHING = auto()  # there was nothing to send
    STALLED = auto()  # a window does not allow it
    ENDED = auto()  # that was the end


# By name of their own: to look a member up in its class takes longer than to compare it.
SOME, NOTHING, STALLED, ENDED = Sent


class Outgoing:
    """Heads, pieces of a body, then an end. ``size`` is the octets that wait; ``ended`` is whether the end went."""

    __slots__ = ("_at", "_broken", "_end", "_items", "_trailers", "ended", "size")

    def __init__(self) -> None:
        self._items: deque[list[Field] | bytes | bytearray] = deque()
        self._at = 0  # octets of the first item that went
        self._end = False
        self._trailers: list[Field] = []
        self._broken: ErrorCodes | None = None
        self.size = 0
        self.ended = False

    def head(self, fields: list[Field]) -> int:
        """Add a field block; return its size in octets, uncompressed."""
        size = sum([len(name) + len(value) for name, value in fields])
        self.size += size
        self._items.append(fields)
        return size

    def data(self, payload: bytes) -> None:
        """Add a piece of the body; small pieces leave together."""
        self.size += len(payload)
        last = self._items[-1] if self._items else None
        if last is None or isinstance(last, list) or len(payload) >= FRAME or len(last) >= FRAME:
            self._items.append(payload)
        elif isinstance(last, bytearray):
            last += payload
        else:
            self._items[-1] = bytearray(last) + payload

    def end(self, trailers: list[Field]) -> None:
        """Add the end."""
        self._end = True
        self._trailers = trailers

    def break_off(self, code: ErrorCodes) -> None:
        """Add a reset: what was passed on is passed on, but nobody may take it for the whole."""
        self._broken = code

    def send(self, engine: Engine, stream_id: int) -> Sent:
        """Send one frame's worth."""
        sent = self._send(engine, stream_id)
        self.ended = sent is ENDED
        return sent

    def _send(self, engine: Engine, stream_id: int) -> Sent:
        items = self._items
        if not items:
            return ENDED if self.ended else self._finish(engine, stream_id)
        item = items[0]
        if isinstance(item, list):
            items.popleft()
            self.size -= sum([len(name) + len(value) for name, value in item])
            last = self._end and not items and not self._trailers
            engine.headers(stream_id, item, last)
            return ENDED if last else SOME
        left = len(item) - self._at
        most = min(left, FRAME, engine.window(stream_id))
        if most <= 0:
            return STALLED
        payload = bytes(item) if most == len(item) else bytes(memoryview(item)[self._at : self._at + most])
        if most == left:
            items.popleft()
            self._at = 0
        else:
            self._at += most
        self.size -= most
        last = self._end and not items and not self._trailers
        engine.data(stream_id, payload, last)
        return ENDED if last else SOME

    def _finish(self, engine: Engine, stream_id: int) -> Sent:
        if self._end:
            if self._trailers:
                engine.headers(stream_id, self._trailers, True)
            else:
                engine.data(stream_id, b"", True)
            return ENDED
        if self._broken is not None:
            engine.reset(stream_id, self._broken)
            return ENDED
        return NOTHING
