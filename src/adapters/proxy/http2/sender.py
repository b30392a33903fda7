"""Sending in turns: a frame of each stream that has something, so that small answers pass beside a download."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from tunnel_server.adapters.proxy.http2.limits import ANSWERS, LEAST_ANSWER, PUMPED
from tunnel_server.adapters.proxy.http2.outgoing import ENDED, NOTHING, STALLED
from tunnel_server.adapters.proxy.visitor import GONE

if TYPE_CHECKING:
    from tunnel_server.adapters.proxy.http2.engine import Engine
    from tunnel_server.adapters.proxy.http2.stream import Stream

HEAD_COST = 64  # octets a frame without DATA counts for, in a turn


class Sender:
    """Whose turn it is. ``waiting`` is how many octets of answers all streams keep.

    ``moved`` hears how many octets went, ``ended`` which stream's end went.
    """

    __slots__ = ("_ended", "_engine", "_moved", "_ready", "_stalled", "waiting")

    def __init__(self, engine: Engine, moved: Callable[[int], None], ended: Callable[[Stream], None]) -> None:
        self._engine = engine
        self._moved = moved
        self._ended = ended
        self._ready: deque[Stream] = deque()  # have something to send, the one whose turn it is first
        self._stalled: dict[int, Stream] = {}  # a window does not allow them to send
        self.waiting = 0

    @property
    def has_work(self) -> bool:
        """Whether a stream has something that a window allows to send, as far as is known."""
        return bool(self._ready)

    @property
    def room(self) -> int:
        """How many octets of an answer a stream may keep: as many as others leave to it, as in ``domain/share``."""
        return max(LEAST_ANSWER, ANSWERS - self.waiting)

    def add(self, stream: Stream) -> None:
        """Give a turn to ``stream``, which had nothing to send."""
        stream.queued = True
        self._ready.append(stream)

    def drop(self, stream: Stream) -> None:
        """Forget a stream that is gone, and what it had to send."""
        self.waiting -= stream.outgoing.size
        stream.outgoing.size = 0
        self._stalled.pop(stream.id, None)

    def unstall(self, stream_id: int) -> None:
        """A window was opened: a stream's or, if ``stream_id`` is 0, perhaps each."""
        if stream_id:
            stream = self._stalled.pop(stream_id, None)
            if stream is not None:
                self._ready.append(stream)
        else:
            self._ready.extend(self._stalled.values())
            self._stalled.clear()

    def send(self, more: Callable[[], bool]) -> None:
        """Send for one turn, or until ``more`` says no."""
        ready, engine = self._ready, self._engine
        room = PUMPED
        while ready and room > 0 and more():
            stream = ready.popleft()
            if stream.phase is GONE:
                continue
            outgoing = stream.outgoing
            before = outgoing.size
            sent = outgoing.send(engine, stream.id)
            if sent is STALLED:
                self._stalled[stream.id] = stream
                continue
            went = before - outgoing.size
            self.waiting -= went
            room -= went + HEAD_COST
            self._moved(went)
            if sent is ENDED or sent is NOTHING:
                stream.queued = False
                if sent is ENDED:
                    self._ended(stream)
            else:
                ready.append(stream)
                stream.sent()
