"""What a visitor's frames do to the streams of its connection."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

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
from tunnel_server.adapters.proxy.http2.fields import malformed, read_request
from tunnel_server.adapters.proxy.http2.frames import DATA, END_STREAM, GOAWAY, HEADERS, Frame, FrameReader
from tunnel_server.adapters.proxy.http2.limits import CONNECTION_WINDOW, RESETS, Budget, StreamViolation
from tunnel_server.adapters.proxy.http2.stream import Stream
from tunnel_server.domain.metrics import Outcome

if TYPE_CHECKING:
    from tunnel_server.adapters.proxy.http2.connection import Http2Connection
    from tunnel_server.adapters.proxy.http2.engine import Engine

log = structlog.get_logger()


class Receiver:
    """Reads frames and tells streams of them; what a stream does about it waits until the turn ends."""

    def __init__(self, connection: Http2Connection, engine: Engine, frames: FrameReader) -> None:
        self._connection = connection
        self._streams = connection.streams
        self._engine = engine
        self._frames = frames
        self._resets = Budget("streams that were reset", RESETS)
        self._new: list[Stream] = []  # begun in this turn
        self._fed: dict[Stream, None] = {}  # with a piece of their body that came in this turn
        self._body_ended = False  # the field block being received ends its stream
        self._received = 0  # octets of DATA not given back to the connection's window
        self._greeted = False

    def read(self, now: float, until: float) -> bool:
        """Handle what came, at loop time ``now``; true if some of it is left at ``until``, by ``perf_counter``.

        Raises:
            Violation: the connection has to end.
        """
        while not self._connection.over:
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

    def end_turn(self) -> None:
        """Let streams go on with what came, and give back what was received to the connection's window.

        That is given back at once, whatever services take: the streams' windows bound what is kept.
        """
        new, fed = self._new, self._fed
        for stream in new:
            stream.start()
        new.clear()
        for stream in fed:
            stream.pass_on()
        fed.clear()
        if self._received >= CONNECTION_WINDOW >> 1:
            self._engine.credit(self._received)
            self._received = 0

    def _take(self, frame: Frame, now: float) -> None:
        kind, flags, stream_id, whole = frame
        if not self._greeted:
            self._greeted = True
            self._connection.greeted()
        if kind == GOAWAY:  # h2 would take it for the end of all streams
            self._connection.peer_leaves()
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
                self._connection.unstall(event.stream_id or 0)
            case RemoteSettingsChanged():
                self._connection.unstall(0)
            case TrailersReceived():
                self._trailers(event.stream_id)
            case StreamReset():
                self._was_reset(event.stream_id, now)
            case _:
                pass  # h2 sees to it

    def _begin(self, stream_id: int, octets: int) -> None:
        self._frames.earn(5)
        if not self._connection.takes_streams:
            raise StreamViolation(ErrorCodes.REFUSED_STREAM, "too many streams", stream_id)
        stream = self._connection.begin(stream_id)
        stream.upload.ended = self._body_ended
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
        self._fed[stream] = None
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
        self._fed[stream] = None
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
            self._connection.drop(stream)
        self._resets.spend(now)

    def _fail_stream(self, error: StreamViolation, now: float) -> None:
        """Reset a stream for what its visitor did; that it makes us do so counts as if it had done it itself."""
        self._engine.reset(error.stream_id, error.code)
        stream = self._streams.get(error.stream_id)
        if stream is not None:
            stream.abandon(Outcome.BAD_REQUEST)
            self._connection.drop(stream)
        log.debug(
            "visitor.violation",
            code=error.code.name,
            reason=error.reason,
            address=self._connection.introduction.address,
        )
        self._resets.spend(now)
