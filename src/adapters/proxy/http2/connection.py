"""A visitor's HTTP/2 connection: frames in turns, streams side by side.

A connection's frames are handled for a short turn, then others have theirs; what streams have to send goes in turns,
too. A stream's fault ends that stream, a connection's fault that connection, and nobody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, cast

import structlog
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)

from tunnel_server.adapters.proxy import answers
from tunnel_server.adapters.proxy.head import BadMessage
from tunnel_server.adapters.proxy.http2.credit import Spare
from tunnel_server.adapters.proxy.http2.engine import Engine
from tunnel_server.adapters.proxy.http2.fields import malformed, read_request
from tunnel_server.adapters.proxy.http2.frames import DATA, END_STREAM, GOAWAY, HEADERS, Frame, FrameReader, goaway
from tunnel_server.adapters.proxy.http2.limits import (
    CONNECTION_WINDOW,
    LINGER,
    MAX_STREAMS,
    RESETS,
    TURN,
    UNTAKEN,
    WRITE_BUFFER,
    Budget,
    StreamViolation,
    Violation,
)
from tunnel_server.adapters.proxy.http2.sender import Sender
from tunnel_server.adapters.proxy.http2.stream import Stream
from tunnel_server.adapters.proxy.visitor import EXCHANGE, GONE, HEAD, LEAVING, Phase
from tunnel_server.domain.arrival import HTTPS
from tunnel_server.domain.metrics import Outcome
from tunnel_server.domain.share import one_visitor

if TYPE_CHECKING:
    from tunnel_server.adapters.proxy.relay import Relay
    from tunnel_server.domain.arrival import Arrival

log = structlog.get_logger()


class Http2Connection(asyncio.Protocol):
    """The protocol of one visitor's connection, once ``h2`` was negotiated on it."""

    transport: asyncio.Transport
    visitor: str  # who asks, as :mod:`tunnel_server.domain.share` has it

    def __init__(self, relay: Relay, arrival: Arrival) -> None:
        self.relay = relay
        self.arrival = arrival
        self.hsts = relay.secure.hsts if arrival.scheme == HTTPS else b""
        self.phase: Phase = HEAD
        self.deadline = inf  # loop time at which `timed_out` is called
        self.spare = Spare()
        self.host: bytes | None = None  # of the request before
        self.told = b""  # what a service at that host hears of this visitor
        limits = relay.limits
        self._loop = relay.loop
        self._engine = Engine(limits.head_size, limits.header_count)
        self._frames = FrameReader(limits.head_size)
        self._resets = Budget("streams that were reset", RESETS)
        self.sender = Sender(self._engine, self._moved, self._sent_all)
        self._streams: dict[int, Stream] = {}
        self._coming: set[Stream] = set()  # gone, but a channel is still being opened for them
        self._new: list[Stream] = []  # begun in this turn
        self._body_ended = False  # the field block being received ends its stream
        self._idle_deadline = self._block_deadline = inf
        self._received = 0  # octets of DATA not given back to the connection's window
        self._turn_due = self._sending_due = self._held = self._full = False
        self._writing_paused = self._stopping = self._peer_leaves = self._greeted = False

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit it
        if not self.relay.arrived(self, self.arrival):
            self.phase = GONE
            self.transport.abort()
            return
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self.peer, self.trusted = self.relay.introduce(self.transport, self.arrival)
        self.address = self.peer.decode()
        self.visitor = one_visitor(self.address)
        self._expect_idle(self.relay.limits.head_timeout)
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self.phase is not LEAVING and self.phase is not GONE:
            self._frames.add(data)
            if not self._turn_due:
                self._turn()

    def eof_received(self) -> bool:
        self._abandon_all()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._abandon_all()
        self.relay.left(self)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self._full:
            self._full = False
            self._unhold()
        if self.sender.has_work:
            self.send_soon()

    # reading, in turns

    def _turn(self) -> None:
        self._turn_due = False
        if self.phase is LEAVING or self.phase is GONE:
            return
        began = perf_counter()
        try:
            more = self._read_frames(began + TURN)
            for stream in self._new:
                stream.start()
            self._new.clear()
            self._give_credit()
        except Violation as error:
            log.debug("visitor.violation", code=error.code.name, reason=error.reason, address=self.address)
            self._leave(error.code)
        except Exception:
            log.exception("visitor.failed")
            self._leave(ErrorCodes.INTERNAL_ERROR)
        else:
            if more:
                self._next_turn(perf_counter() - began)
            else:
                self._unhold()
                self._expect_block()
            self._flush()

    def _next_turn(self, took: float) -> None:
        """Have another turn: at once or, after one that took too long, when others had as much time."""
        self._turn_due = True
        self._hold()
        if took > 2 * TURN:
            self._loop.call_later(took, self._turn)
        else:
            self._loop.call_soon(self._turn)

    def _read_frames(self, until: float) -> bool:
        """Handle what was received; true if some of it is left for another turn."""
        now = self._loop.time()
        while self.phase is not LEAVING and self.phase is not GONE:
            try:
                frame = self._frames.next(now)
                if frame is None:
                    return False
                self._take(frame, now)
            except StreamViolation as error:
                self._fail_stream(error, now)
            if perf_counter() > until:
                return True
        return False

    def _take(self, frame: Frame, now: float) -> None:
        kind, flags, stream_id, whole = frame
        if not self._greeted:
            self._greeted = True
            self._expect_idle(self.relay.limits.keepalive_timeout)
        if kind == GOAWAY:  # h2 would take it for the end of all streams
            self._peer_leaves = True
            self._close_if_done()
            return
        if kind == HEADERS:
            self._body_ended = bool(flags & END_STREAM)
            if not self._body_ended and stream_id in self._streams:
                # Trailers that do not end the stream; h2 would end the connection for them.
                whole = whole[:4] + bytes((flags | END_STREAM,)) + whole[5:]
        elif kind == DATA and stream_id not in self._streams:
            self._frames.spend(now)  # it is answered by a reset
        for event in self._engine.receive(whole):
            self._happened(event, now, len(whole))

    def _happened(self, event: Event, now: float, octets: int) -> None:
        match event:
            case RequestReceived():
                self._begin(event.stream_id, octets)
            case DataReceived():
                self._data(event, now)
            case WindowUpdated():
                self._unstall(event.stream_id or 0)
            case RemoteSettingsChanged():
                self._unstall(0)
            case TrailersReceived():
                self._trailers(event.stream_id)
            case StreamReset():
                self._was_reset(event.stream_id, now)
            case _:
                pass  # h2 sees to it

    def _begin(self, stream_id: int, octets: int) -> None:
        self._frames.earn(5)
        if self._stopping or len(self._streams) + len(self._coming) >= MAX_STREAMS:
            raise StreamViolation(ErrorCodes.REFUSED_STREAM, "too many streams", stream_id)
        stream = self._streams[stream_id] = Stream(self, stream_id)
        stream.peer_ended = self._body_ended
        self.phase = EXCHANGE
        try:
            if self._engine.oversized:
                raise BadMessage("the fields are too many or too long", 431)
            stream.request(read_request(self._engine.fields, self._body_ended), octets)
        except StreamViolation as error:
            error.stream_id = stream_id
            raise
        except BadMessage as error:
            stream.refuse(answers.bad_request(error.status, error.reason))
        else:
            self._new.append(stream)

    def _data(self, event: DataReceived, now: float) -> None:
        octets, payload = event.flow_controlled_length, event.data
        self._received += octets
        if len(payload) > 256:
            self._frames.earn(2)
        elif not payload and event.stream_ended is None:
            self._frames.spend(now)
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        try:
            stream.data(payload, octets)
            if event.stream_ended is not None:
                stream.end(None)
        except StreamViolation as error:
            error.stream_id = event.stream_id
            raise

    def _trailers(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        try:
            if not self._body_ended or self._engine.oversized:
                raise malformed("trailers that are too long, or do not end the stream")
            stream.end(self._engine.fields)
        except StreamViolation as error:
            error.stream_id = stream_id
            raise

    def _was_reset(self, stream_id: int, now: float) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.abandon()
            self._drop(stream)
        self._resets.spend(now)

    def _fail_stream(self, error: StreamViolation, now: float) -> None:
        """Reset a stream for what its visitor did; that it makes us do so counts as if it had done it itself."""
        self._engine.reset(error.stream_id, error.code)
        stream = self._streams.get(error.stream_id)
        if stream is not None:
            stream.abandon(Outcome.BAD_REQUEST)
            self._drop(stream)
        log.debug("visitor.violation", code=error.code.name, reason=error.reason, address=self.address)
        self._resets.spend(now)

    # receiving no more than can be kept

    def _give_credit(self) -> None:
        """Give back what was received to the connection's window: the streams' windows bound what is kept."""
        if self._received >= CONNECTION_WINDOW >> 1:
            self._engine.credit(self._received)
            self._received = 0

    def credit(self, octets: int, stream_id: int) -> None:
        """Let the visitor send ``octets`` more on a stream that has not ended."""
        self._engine.credit(octets, stream_id)
        self.send_soon()

    def _hold(self) -> None:
        if not self._held and not self.transport.is_closing():
            self._held = True
            self.transport.pause_reading()

    def _unhold(self) -> None:
        if self._held and not self._full and not self._turn_due and not self.transport.is_closing():
            self._held = False
            self.transport.resume_reading()

    # sending, in turns

    def send_soon(self) -> None:
        """Send what there is once all that arrived now was heard: answers that come together leave together."""
        if not self._sending_due:
            self._sending_due = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._sending_due = False
        if self.phase is LEAVING or self.phase is GONE:
            return
        try:
            self.sender.send(self._may_send)
        except Exception:
            log.exception("visitor.failed")
            self._leave(ErrorCodes.INTERNAL_ERROR)
            return
        self._flush()
        if self.sender.has_work and not self._writing_paused:
            self.send_soon()

    def _may_send(self) -> bool:
        return not self._writing_paused

    def _moved(self, octets: int) -> None:
        self._frames.earn(octets / 1024)

    def _unstall(self, stream_id: int) -> None:
        self.sender.unstall(stream_id)
        if self.sender.has_work:
            self.send_soon()

    def _flush(self) -> None:
        data = self._engine.take()
        if data and not self.transport.is_closing():
            self.transport.write(data)
            if self._writing_paused and not self._full and self.transport.get_write_buffer_size() > UNTAKEN:
                self._full = True
                self._hold()

    # the end of streams

    def _sent_all(self, stream: Stream) -> None:
        stream.sent_all()
        if stream.phase is not GONE:  # the service ended a websocket, the visitor has not
            return
        if not stream.peer_ended:
            self._engine.reset(stream.id, ErrorCodes.NO_ERROR)  # send no more of the request, RFC 9113 §8.1
        self._drop(stream)

    def cut(self, stream: Stream, code: ErrorCodes) -> None:
        """Reset a stream whose time is up."""
        self._engine.reset(stream.id, code)
        stream.abandon()
        self._drop(stream)
        self._flush()

    def channel_came(self, stream: Stream) -> None:
        """The channel that was being opened for a stream that is gone has come, or will not."""
        self._coming.discard(stream)

    def _drop(self, stream: Stream) -> None:
        self._streams.pop(stream.id, None)
        self.sender.drop(stream)
        if stream.channel_is_coming:
            self._coming.add(stream)
        if not self._streams and self.phase is EXCHANGE:
            self.phase = HEAD
            self._expect_idle(self.relay.limits.keepalive_timeout)
            self._close_if_done()

    def _abandon_all(self) -> None:
        if self.phase is not LEAVING:
            self.phase = GONE
        streams = list(self._streams.values())
        self._streams.clear()
        self._new.clear()
        for stream in streams:
            stream.abandon()
            self.sender.drop(stream)

    # the end of the connection

    def _leave(self, code: ErrorCodes) -> None:
        """End the connection, and let the visitor hear why."""
        if self.phase is LEAVING or self.phase is GONE:
            return
        self.phase = LEAVING
        self._abandon_all()
        self._engine.fail(code)
        self._flush()
        self.deadline = self._loop.time() + LINGER
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self._turn_due = self._full = False
        self._unhold()
        with contextlib.suppress(OSError):  # the visitor has just reset; asyncio will tell
            self.transport.write_eof()

    def _close_if_done(self) -> None:
        if not self._streams and (self._stopping or self._peer_leaves):
            self._leave(ErrorCodes.NO_ERROR)

    def server_stops(self) -> bool:
        """Take no new streams; true while some are under way, after which the connection ends by itself."""
        if not self._stopping and self.phase is not LEAVING and self.phase is not GONE:
            self._stopping = True
            self._flush()
            self.transport.write(goaway(self._frames.highest))
            self._close_if_done()
        return bool(self._streams)

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
        if self.phase is LEAVING or self.phase is GONE:
            self.transport.abort()
            return
        for stream in [stream for stream in self._streams.values() if stream.deadline < now]:
            stream.timed_out(now)
        own = min(self._block_deadline, inf if self._streams else self._idle_deadline)
        if own < now:
            self._leave(ErrorCodes.NO_ERROR)
        elif self.phase is not LEAVING:
            self.deadline = min([own, *(stream.deadline for stream in self._streams.values())])
