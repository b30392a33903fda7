"""A visitor's HTTP/2 connection: frames in turns, streams side by side.

A connection's frames are handled for a short turn, then others have theirs; what streams have to send goes in turns,
too. A stream's fault ends that stream, a connection's fault that connection, and nobody else's.
"""

from __future__ import annotations

import asyncio
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, cast

import structlog
from h2.errors import ErrorCodes

from tunnel_server.adapters.proxy.http2.credit import Spare
from tunnel_server.adapters.proxy.http2.engine import Engine
from tunnel_server.adapters.proxy.http2.frames import FrameReader, goaway
from tunnel_server.adapters.proxy.http2.limits import LINGER, MAX_STREAMS, TURN, Violation
from tunnel_server.adapters.proxy.http2.receiver import Receiver
from tunnel_server.adapters.proxy.http2.sender import Sender
from tunnel_server.adapters.proxy.http2.stream import Stream
from tunnel_server.adapters.proxy.http2.turns import turns_of
from tunnel_server.adapters.proxy.http2.wire import Wire
from tunnel_server.adapters.proxy.introduction import Introduction
from tunnel_server.adapters.proxy.visitor import EXCHANGE, GONE, HEAD, LEAVING, Phase
from tunnel_server.domain.arrival import HTTPS

if TYPE_CHECKING:
    from tunnel_server.adapters.proxy.relay import Relay
    from tunnel_server.domain.arrival import Arrival

log = structlog.get_logger()


class Http2Connection(asyncio.Protocol):
    """The protocol of one visitor's connection, once ``h2`` was negotiated on it."""

    transport: asyncio.Transport
    introduction: Introduction
    _wire: Wire

    def __init__(self, relay: Relay, arrival: Arrival) -> None:
        self.relay = relay
        self.arrival = arrival
        self.hsts = relay.secure.hsts if arrival.scheme == HTTPS else b""
        self.phase: Phase = HEAD
        self.deadline = inf  # loop time at which `timed_out` is called
        self.spare = Spare()
        self.streams: dict[int, Stream] = {}
        self._coming: set[Stream] = set()  # gone, but a channel is still being opened for them
        limits = relay.limits
        self._loop = relay.loop
        self._turns = turns_of(relay.loop)
        self._engine = Engine(limits.head_size, limits.header_count)
        self._frames = FrameReader(limits.head_size)
        self._receiver = Receiver(self, self._engine, self._frames)
        self.sender = Sender(self._engine, self._moved, self._sent_all)
        self._idle_deadline = self._block_deadline = inf
        self._took = 0.0  # seconds, the last turn
        self._turn_due = self._sending_due = self._stopping = self._peer_leaves = False

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit it
        if not self.relay.arrived(self, self.arrival):
            self.phase = GONE
            self.transport.abort()
            return
        self._wire = Wire(self.transport, self._engine)
        self.introduction = Introduction(*self.relay.introduce(self.transport, self.arrival), self.arrival.scheme)
        self._expect_idle(self.relay.limits.head_timeout)
        self._wire.flush()

    def data_received(self, data: bytes) -> None:
        if not self.over:
            self._frames.add(data)
            if self._turn_due:
                return
            if self._took > TURN:  # one who takes long waits for others who do
                self._turn_due = True
                self._wire.busy(True)
                self._turns.ask(self._turn)
            else:
                self._turn()

    def eof_received(self) -> bool:
        self._abandon_all()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._abandon_all()
        self.relay.left(self)

    def pause_writing(self) -> None:
        self._wire.writing_paused = True

    def resume_writing(self) -> None:
        self._wire.resume_writing()
        if self.sender.has_work:
            self.send_soon()

    # reading, in turns

    @property
    def over(self) -> bool:
        """Whether what comes in does not matter any more."""
        return self.phase is LEAVING or self.phase is GONE

    def _turn(self) -> None:
        self._turn_due = False
        if self.over:
            return
        began = perf_counter()
        try:
            more = self._receiver.read(self._loop.time(), began + TURN)
            self._receiver.end_turn()
        except Violation as error:
            log.debug("visitor.violation", code=error.code.name, reason=error.reason, address=self.introduction.address)
            self._leave(error.code)
        except Exception:
            log.exception("visitor.failed")
            self._leave(ErrorCodes.INTERNAL_ERROR)
        else:
            self._took = perf_counter() - began
            self._turn_due = more and not self.over
            if self._turn_due:
                self._next_turn(self._took)
            else:
                self._expect_block()
            self._wire.busy(self._turn_due)
            self._wire.flush()

    def _next_turn(self, took: float) -> None:
        """Have another turn: after others or, after one that took too long, when they had as much time as well."""
        if took > 2 * TURN:
            self._loop.call_later(took, self._turns.ask, self._turn)
        else:
            self._turns.ask(self._turn)

    def greeted(self) -> None:
        """The visitor speaks HTTP/2 indeed."""
        self._expect_idle(self.relay.limits.keepalive_timeout)

    def credit(self, octets: int, stream_id: int) -> None:
        """Let the visitor send ``octets`` more on a stream that has not ended."""
        self._engine.credit(octets, stream_id)
        self.send_soon()

    # sending, in turns

    def send_soon(self) -> None:
        """Send what there is once all that arrived now was heard: answers that come together leave together."""
        if not self._sending_due:
            self._sending_due = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._sending_due = False
        if self.over:
            return
        try:
            self.sender.send(self._may_send)
        except Exception:
            log.exception("visitor.failed")
            self._leave(ErrorCodes.INTERNAL_ERROR)
            return
        self._wire.flush()
        if self.sender.has_work and not self._wire.writing_paused:
            self.send_soon()

    def _may_send(self) -> bool:
        return not self._wire.writing_paused

    def _moved(self, octets: int) -> None:
        self._frames.earn(octets / 1024)

    def unstall(self, stream_id: int) -> None:
        """A window was opened: a stream's or, if ``stream_id`` is 0, perhaps each."""
        self.sender.unstall(stream_id)
        if self.sender.has_work:
            self.send_soon()

    # streams

    @property
    def takes_streams(self) -> bool:
        """Whether one stream more may begin."""
        return not self._stopping and len(self.streams) + len(self._coming) < MAX_STREAMS

    def begin(self, stream_id: int) -> Stream:
        """Return a new stream."""
        self.phase = EXCHANGE
        stream = self.streams[stream_id] = Stream(self, stream_id)
        return stream

    def _sent_all(self, stream: Stream) -> None:
        stream.sent_all()
        if stream.phase is not GONE:  # the service ended a websocket, the visitor has not
            return
        if not stream.upload.ended:
            self._engine.reset(stream.id, ErrorCodes.NO_ERROR)  # send no more of the request, RFC 9113 §8.1
        self.drop(stream)

    def cut(self, stream: Stream, code: ErrorCodes) -> None:
        """Reset a stream whose time is up."""
        self._engine.reset(stream.id, code)
        stream.abandon()
        self.drop(stream)
        self._wire.flush()

    def channel_came(self, stream: Stream) -> None:
        """The channel that was being opened for a stream that is gone has come, or will not."""
        self._coming.discard(stream)

    def drop(self, stream: Stream) -> None:
        """Forget a stream that is gone."""
        self.streams.pop(stream.id, None)
        self.sender.drop(stream)
        if stream.channel_is_coming:
            self._coming.add(stream)
        if self._engine.lost:  # behind the answer that says so, for some take no answers after a GOAWAY
            self.server_stops()
        if not self.streams and self.phase is EXCHANGE:
            self.phase = HEAD
            self._expect_idle(self.relay.limits.keepalive_timeout)
            self._close_if_done()

    def _abandon_all(self) -> None:
        if self.phase is not LEAVING:
            self.phase = GONE
        streams = list(self.streams.values())
        self.streams.clear()
        for stream in streams:
            stream.abandon()
            self.sender.drop(stream)

    # the end of the connection

    def _leave(self, code: ErrorCodes) -> None:
        """End the connection, and let the visitor hear why."""
        if self.over:
            return
        self.phase = LEAVING
        self._abandon_all()
        self._engine.fail(code)
        self.deadline = self._loop.time() + LINGER
        self._wire.end()

    def _close_if_done(self) -> None:
        if not self.streams and (self._stopping or self._peer_leaves):
            self._leave(ErrorCodes.NO_ERROR)

    def peer_leaves(self) -> None:
        """The visitor begins no new streams: the connection ends with those under way."""
        self._peer_leaves = True
        self._close_if_done()

    def server_stops(self) -> bool:
        """Take no new streams; true while some are under way, after which the connection ends by itself."""
        if not self._stopping and not self.over:
            self._stopping = True
            self._wire.flush()
            self.transport.write(goaway(self._frames.highest))
            self._close_if_done()
        return bool(self.streams)

    # time

    def expect(self, deadline: float) -> None:
        """See to it that the time limits are looked at by ``deadline``."""
        self.deadline = min(self.deadline, deadline)

    def _expect_idle(self, wait: float) -> None:
        self._idle_deadline = self._loop.time() + wait
        self.expect(self._idle_deadline)

    def _expect_block(self) -> None:
        """A field block that has begun has to end in time."""
        if not self._frames.within_block:
            self._block_deadline = inf
        elif self._block_deadline == inf:
            self._block_deadline = self._loop.time() + self.relay.limits.head_timeout
            self.expect(self._block_deadline)

    def timed_out(self, now: float) -> None:
        """A deadline passed: see whose."""
        if self.over:
            self.transport.abort()
            return
        for stream in [stream for stream in self.streams.values() if stream.deadline < now]:
            stream.timed_out(now)
        own = min(self._block_deadline, inf if self.streams else self._idle_deadline)
        if own < now:
            self._leave(ErrorCodes.NO_ERROR)
        elif self.phase is not LEAVING:
            self.deadline = min([own, *(stream.deadline for stream in self.streams.values())])
