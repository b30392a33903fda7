"""One visitor's connection: requests in, answers out, in order.

Everything happens in callbacks; there is no task per request. A connection is in one phase at a
time, and at most one exchange is under way on it, so pipelined requests are answered in order.
Whatever a visitor does wrong costs that visitor its connection and nobody else anything.
"""

from __future__ import annotations

import asyncio
import contextlib
from enum import Enum, auto
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, cast

from tunnel_server.adapters.proxy import answers
from tunnel_server.adapters.proxy.body import BodyReader, body_reader, chunk, last_chunk
from tunnel_server.adapters.proxy.head import (
    CHUNKED,
    END,
    BadMessage,
    RequestHead,
    ResponseHead,
    has_bare_line_feed,
    parse_request,
)
from tunnel_server.adapters.proxy.introduction import Introduction
from tunnel_server.adapters.proxy.judgement import Judgement
from tunnel_server.adapters.proxy.write import (
    BY_CHUNKS,
    BY_CLOSE,
    NO_BODY,
    Framing,
    insist_on_tls,
    interim_bytes,
    request_bytes,
    response_bytes,
    switching_bytes,
)
from tunnel_server.domain.arrival import HTTPS, PLAIN, Arrival
from tunnel_server.domain.forwarding import without_our_cookies
from tunnel_server.domain.metrics import Outcome
from tunnel_server.domain.routing import Surface

if TYPE_CHECKING:
    from tunnel_server.adapters.proxy.pool import Pool
    from tunnel_server.adapters.proxy.relay import Relay
    from tunnel_server.adapters.proxy.upstream import Upstream
    from tunnel_server.domain.rules import Rules
    from tunnel_server.domain.tunnel import Tunnel

MAX_HELD = 64 * 1024  # octets read ahead of what can be passed on, before reading pauses
WRITE_BUFFER = 256 * 1024  # octets waiting for a slow visitor before its channel is paused
FIRST_WORDS = 0.5  # seconds a visitor who came just before the server's stop has to say the first word
LINGER = 2.0  # seconds a visitor has to take an early answer and stop sending (RFC 9112 §9.6)


class Phase(Enum):
    """What the connection is doing."""

    HEAD = auto()  # nothing is under way: a head is read, or waited for
    WAITING = auto()  # a request waits for a channel
    EXCHANGE = auto()  # a request is on a channel
    RAW = auto()  # protocols were switched: bytes both ways
    LEAVING = auto()  # the last answer is written; what still comes in is thrown away
    GONE = auto()  # closed, or handed over


# By name of their own: to look a member up in its class takes longer than to compare it.
HEAD, WAITING, EXCHANGE, RAW, LEAVING, GONE = Phase
ANSWERED, ABORTED = Outcome.ANSWERED, Outcome.ABORTED


class Visitor(asyncio.Protocol):
    """The protocol of one visitor's connection."""

    __slots__ = (  # beyond 30 attributes Python keeps them in a dictionary, and each use looks them up
        "_answering",
        "_arrival",
        "_body",
        "_buffer",
        "_buffer_held",
        "_bytes_in",
        "_bytes_out",
        "_client_id",
        "_cookie_path",
        "_ended",
        "_first_byte",
        "_fresh_channel",
        "_head_began",
        "_how",
        "_hsts",
        "_introduction",
        "_keep_alive",
        "_limits",
        "_loop",
        "_out",
        "_outcome",
        "_path",
        "_pool",
        "_raw_ended",
        "_reading_holds",
        "_relay",
        "_request",
        "_searched",
        "_sent",
        "_started",
        "_status",
        "_upstream",
        "_writing_paused",
        "corked",
        "deadline",
        "judgement",
        "moved",
        "phase",
        "transport",
        "visitor",
    )

    transport: asyncio.Transport
    visitor: str
    _request: RequestHead
    _body: BodyReader
    _path: bytes  # what the service is asked for

    def __init__(self, relay: Relay, arrival: Arrival = PLAIN) -> None:
        self._relay = relay
        self._arrival = arrival
        self._hsts = relay.secure.hsts if arrival.scheme == HTTPS else b""
        self._limits = relay.limits
        self._pool: Pool | None = None
        self.judgement: Judgement | None = None
        self._upstream: Upstream | None = None
        self.corked = False  # what is written waits for `uncork`: head and body in one system call, not two
        self._out: list[bytes] = []
        self._loop = relay.loop
        self.phase = HEAD
        self.deadline = inf  # loop time at which `timed_out` is called
        self.moved = False  # bytes went through since the last look: the idle limit starts anew
        self._head_began = False
        self._buffer = b""
        self._searched = 0  # octets of the buffer known to hold no end of a head
        self._reading_holds = 0
        self._buffer_held = False
        self._writing_paused = False
        self._ended = False  # the visitor sends nothing more
        self._answering = False
        self._client_id: str | None = None
        self._sent = b""  # of a request that may be sent again: its head
        self._fresh_channel = False
        self._cookie_path = b""
        self._how = NO_BODY
        self._keep_alive = True
        self._status = 0
        self._raw_ended = False
        self._outcome: Outcome | None = None
        self._started = 0.0
        self._first_byte: float | None = None
        self._bytes_in = 0
        self._bytes_out = 0

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit it
        if not self._relay.arrived(self, self._arrival):
            self.phase = GONE
            self.transport.abort()
            return
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self._introduction = Introduction(*self._relay.introduce(self.transport, self._arrival), self._arrival.scheme)
        self.visitor = self._introduction.visitor
        self.deadline = self._loop.time() + self._limits.head_timeout

    def data_received(self, data: bytes) -> None:
        phase = self.phase
        if phase is HEAD and not self._writing_paused:
            self._read_head(data)
        elif phase is RAW:
            assert self._upstream is not None
            self.moved = True
            self._bytes_in += len(data)
            self._upstream.write(data)
        elif phase is EXCHANGE and not self._body.done and not self._buffer:
            self._pass_on(data)
        elif phase is not LEAVING and phase is not GONE:
            self._hold(data)

    def eof_received(self) -> bool:
        self._ended = True
        match self.phase:
            case Phase.RAW:
                assert self._upstream is not None
                self._upstream.channel.write_eof()
                if self._raw_ended:
                    self._finish(ANSWERED)
                    return False
                return True
            case Phase.WAITING | Phase.EXCHANGE if self._body.done or self._buffer:
                return True  # half closed: the answer is still wanted
            case _:
                self._abandon()
                return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._abandon()
        self.phase = GONE
        self._relay.left(self)

    def pause_writing(self) -> None:
        self._writing_paused = True
        if self._upstream is not None:
            self._upstream.channel.pause_reading()

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self._upstream is not None:
            self._upstream.channel.resume_reading()
        elif self.phase is HEAD and self._buffer:
            self._next()

    # reading requests

    def _read_head(self, data: bytes) -> None:
        start = max(0, self._searched - 3)
        self._searched = 0
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        if data[:2] == b"\r\n":  # RFC 9112 §2.2: an empty line before a request
            data = data[2:]
            start = 0
        end = data.find(END, start, self._limits.head_size)
        if end < 0:
            if len(data) >= self._limits.head_size:
                self._refuse(answers.bad_request(431, "the head is too long"))
            elif has_bare_line_feed(data, start):
                self._refuse(answers.bad_request(400, "a line does not end in CR LF"))
            else:
                self._buffer = data
                self._searched = len(data)
                if not self._head_began and data:
                    self._head_began = True
                    self.deadline = self._loop.time() + self._limits.head_timeout
            return
        whole = end + 4 == len(data)
        try:
            request = parse_request(data if whole else data[: end + 4], self._limits.header_count)
        except BadMessage as error:
            self._refuse(answers.bad_request(error.status, error.reason))
            return
        self._head_began = False
        self._request = request
        self._begin(data, end + 4)

    def _begin(self, data: bytes, body_at: int) -> None:
        """Start the exchange of the request just read; the body begins in ``data`` at ``body_at``."""
        request = self._request
        self._started = perf_counter()
        self._first_byte = None
        self._bytes_in = body_at
        self._bytes_out = self._status = 0
        self._answering = False
        self._body = body_reader(request.length)
        self._keep_alive = request.keep_alive and not self._relay.stopping
        self._client_id = None
        self._pool = None
        self.judgement = None
        self._outcome = ABORTED  # unless it goes better
        introduction = self._introduction
        self.visitor = introduction.visitor_of(request)
        if not introduction.knows(request.host) and (problem := self._relay.misplaced(request, self._arrival)):
            self._refuse(problem)
            return
        found = self._relay.find(request, introduction.scheme(request))
        if isinstance(found, Surface):
            self.phase = GONE
            self.deadline = inf
            self._outcome = None
            self._relay.hand_over(self, found, data)
            return
        if isinstance(found, answers.Problem):
            self._refuse(found)
            return
        self._buffer = data[body_at:]
        pool, self._path, self._cookie_path = found
        if not request.host:  # HTTP/1.0 by path; the service hears HTTP/1.1, which needs one
            request.host = self._relay.host
            request.lines.insert(0, b"Host: %b\r\n" % request.host)
        self._pool = pool
        self._client_id = pool.client_id
        if pool.rules is None:
            self.allowed()
        else:
            self._judge(pool.rules)

    def _judge(self, rules: Rules) -> None:
        self.judgement = judgement = Judgement(rules, self._request, self._path, self._introduction, self)
        self.phase = WAITING
        self.deadline = self._loop.time() + self._limits.response_timeout  # policies have shorter limits of their own
        if judgement.begin(self._loop):
            self._hold(b"")

    # the judgement calls these, and at once if there is none

    def allowed(self) -> None:
        """Send the request to the service."""
        request, pool = self._request, self._pool
        assert pool is not None
        if request.has_our_cookies:
            request.lines = without_our_cookies(request.lines)
        self._sent = request_bytes(request, self._path, self._introduction.fields(request))
        upstream = pool.take(self.visitor, request.replayable)
        self._fresh_channel = upstream is None
        if upstream is not None:
            self.channel_ready(upstream)
        else:
            self._wait(pool)

    def refuse(self, problem: answers.Problem) -> None:
        """Answer ``problem`` instead."""
        self._refuse(problem)

    def _wait(self, pool: Pool) -> None:
        self.phase = WAITING
        self.deadline = self._loop.time() + self._limits.queue_timeout
        self._hold(b"")
        if pool.closed:  # while a policy thought, or since another channel of it broke
            self._refuse(self._relay.gone(pool.tunnel))
        elif not pool.request(self):
            self._refuse(answers.overloaded(1))

    # the pool calls these

    def channel_coming(self) -> None:
        self.deadline = inf  # opening a channel has a limit of its own

    def channel_ready(self, upstream: Upstream) -> None:
        if self.phase is GONE or self.phase is LEAVING:
            upstream.release_unused()
            return
        self.phase = EXCHANGE
        self._upstream = upstream
        if self._writing_paused:
            upstream.channel.pause_reading()
        if upstream.writing_paused:
            self.hold_reading()
        self._set_exchange_deadline()
        first = b""
        if self._buffer and not self._body.done:  # what came with the head goes with it, too
            data, self._buffer = self._buffer, b""
            self._unhold_buffer()
            first = self._unframed(data)
        if self._upstream is upstream:  # and the body's beginning was none to refuse
            upstream.begin(self, self._request, self._sent + first)

    def channel_failed(self, reason: str) -> None:
        if self.phase is WAITING:
            self._refuse(answers.unreachable(reason))

    # sending the request's body

    def _pass_on(self, data: bytes) -> None:
        """Send the service more of the body."""
        upstream = self._upstream
        payload = self._unframed(data)
        if payload and self._upstream is upstream is not None:
            upstream.write(payload)

    def _unframed(self, data: bytes) -> bytes:
        """Read more of the body, and return it framed for the service; what is bad ends the exchange."""
        self.moved = True
        try:
            payload, end = self._body.feed(data, 0)
        except BadMessage as error:
            self._refuse(answers.bad_request(400, error.reason))
            return b""
        self._bytes_in += end
        if self._request.length == CHUNKED:
            payload = chunk(payload)
            if self._body.done:
                payload += last_chunk(self._body.trailers)
        if end < len(data):
            self._hold(data[end:])
        if self._body.done:
            self._set_exchange_deadline()
        elif end < len(data):
            self.hold_reading()
            self._loop.call_soon(self._read_on)
        elif self._ended:
            self._abandon()
        return payload

    def _read_on(self) -> None:
        """Go on with a body that came in too many chunks for one turn."""
        self.unhold_reading()
        if self.phase is EXCHANGE and not self._body.done and self._buffer:
            data, self._buffer = self._buffer, b""
            self._unhold_buffer()
            self._pass_on(data)

    def _set_exchange_deadline(self) -> None:
        limits = self._limits
        if not self._body.done:
            wait = limits.body_timeout
        else:
            wait = limits.idle_timeout if self._answering else limits.response_timeout
        self.deadline = self._loop.time() + wait

    # holding back a visitor who sends more than can be passed on

    def _hold(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= MAX_HELD and not self._buffer_held:
            self._buffer_held = True
            self.hold_reading()

    def _unhold_buffer(self) -> None:
        if self._buffer_held:
            self._buffer_held = False
            self.unhold_reading()

    def hold_reading(self) -> None:
        """Read no more from the visitor, for one reason more."""
        self._reading_holds += 1
        if self._reading_holds == 1 and not self.transport.is_closing():
            self.transport.pause_reading()

    def unhold_reading(self) -> None:
        """One reason less not to read."""
        self._reading_holds -= 1
        if self._reading_holds == 0 and not self.transport.is_closing():
            self.transport.resume_reading()

    # the upstream calls these

    def interim(self, head: ResponseHead) -> None:
        """Pass on a 1xx answer; HTTP/1.0 knows none."""
        self.moved = True
        if self._request.minor:
            self._write(interim_bytes(head))

    def answered(self, head: ResponseHead, how: Framing) -> None:
        """Pass on the head of the final answer."""
        self.moved = True
        self._answering = True
        self._first_byte = perf_counter() - self._started
        self._status = head.status
        self._how = how
        if how is BY_CLOSE or self._ended or self._relay.stopping:
            self._keep_alive = False
        if self._hsts:
            insist_on_tls(head, self._hsts)
        self._write(response_bytes(self._request, head, how, self._keep_alive, self._cookie_path))
        self.deadline = self._loop.time() + self._limits.idle_timeout

    def answer_body(self, payload: bytes, how: Framing) -> None:
        """Pass on a piece of the answer's body."""
        self.moved = True
        self._write(chunk(payload) if how is BY_CHUNKS else payload)

    def answer_ended(self, how: Framing, trailers: list[tuple[bytes, bytes]]) -> None:
        """End the answer; start the next exchange, if there is one."""
        if how is BY_CHUNKS:
            self._write(last_chunk(trailers))
        complete = self._body.done
        upstream = self._leave_upstream()
        if complete and not self._writing_paused:
            upstream.release()
        else:
            # Answered before the request was whole, or paused: what is still to come of it, on either
            # side, would be taken for a part of the next exchange.
            upstream.close()
        self._report(ANSWERED)
        if not complete or not self._keep_alive:
            self._linger(wait=not complete)
            return
        self._answering = False
        self._pool = self.judgement = self._client_id = None  # what comes next is of nobody yet
        self.phase = HEAD
        self.deadline = self._loop.time() + self._limits.keepalive_timeout
        if self._buffer or self._ended:
            self._loop.call_soon(self._next)

    def upstream_failed(self, reason: str, *, answered: bool, untouched: bool) -> None:
        """The channel broke: try once more, answer 502, or let the visitor see that the answer is cut short."""
        pool = self._pool
        upstream = self._leave_upstream()
        if answered:
            self._report(Outcome.UNREACHABLE)
            if self._how is BY_CLOSE:
                self.transport.abort()  # a plain close would look like the end of the body
            else:
                self._linger(wait=False)
        elif untouched and not self._fresh_channel and self._request.replayable and pool is not None:
            del upstream
            self._fresh_channel = True
            self._wait(pool)
        else:
            self._refuse(answers.unreachable(reason))

    @property
    def request_is_whole(self) -> bool:
        """Whether the request's body was read to its end."""
        return self._body.done

    def switched(self, head: ResponseHead) -> None:
        """Pass on a 101; from here on bytes are just bytes."""
        assert self._upstream is not None
        self.phase = RAW
        self._status = 101
        self._first_byte = perf_counter() - self._started
        self.deadline = self._loop.time() + self._limits.idle_timeout
        self._write(switching_bytes(head))
        data, self._buffer = self._buffer, b""
        self._unhold_buffer()
        if data:
            self._bytes_in += len(data)
            self._upstream.write(data)
        if self._ended:
            self._upstream.channel.write_eof()

    def raw_received(self, data: bytes) -> None:
        """Pass on raw bytes."""
        self.moved = True
        self._write(data)

    def raw_ended(self) -> None:
        """The service sends nothing more; the visitor may."""
        self._raw_ended = True
        if self._ended:
            self._finish(ANSWERED)
        elif not self.transport.is_closing():
            self._write_eof()

    def raw_lost(self) -> None:
        """The channel of an upgraded connection is gone."""
        self._upstream = None
        self._report(ANSWERED)
        self._close()

    # endings

    def _write(self, data: bytes) -> None:
        self._bytes_out += len(data)
        if self.corked:
            self._out.append(data)
        else:
            self.transport.write(data)

    def uncork(self) -> None:
        """Send what was kept."""
        self.corked = False
        out = self._out
        if out:
            self.transport.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()

    def _next(self) -> None:
        """Start the next pipelined request, unless the visitor does not take the answers it has."""
        if self.phase is not HEAD or self._writing_paused:
            return
        data, self._buffer = self._buffer, b""
        self._unhold_buffer()
        if data:
            self._read_head(data)
        if self._ended and self.phase is HEAD:
            self._close()

    def _leave_upstream(self) -> Upstream:
        upstream = self._upstream
        assert upstream is not None
        self._upstream = None
        if upstream.writing_paused:
            self.unhold_reading()
        return upstream

    def _refuse(self, problem: answers.Problem) -> None:
        """Answer ``problem`` ourselves, and end the connection."""
        if self._upstream is not None:
            self._leave_upstream().close()
        self._stop_waiting()
        if self._answering:  # too late for another answer
            self._report(problem.outcome)
            self.phase = GONE
            self.transport.abort()
            return
        parsed = self._outcome is not None
        accept = self._request.accept if parsed else b""
        self._status = problem.status
        if not parsed:
            self._started = perf_counter()
            self._bytes_in = self._bytes_out = 0
        with_body = not parsed or self._request.method != b"HEAD"
        self._write(answers.answer_bytes(problem, accept, with_body, self._hsts))
        self._outcome = problem.outcome
        self._report(problem.outcome)
        self._linger(wait=True)

    def _stop_waiting(self) -> None:
        """Want no channel any more, nor what a policy says."""
        if self._pool is not None and self.phase is WAITING:
            self._pool.withdraw(self)
            if self.judgement is not None:
                self.judgement.cancel()

    def _linger(self, *, wait: bool) -> None:
        """Close; when the visitor may still be sending, only once it stopped, or a reset would take the answer."""
        self._buffer = b""
        if not wait or self._ended or self.transport.is_closing():
            self._close()
            return
        self.phase = LEAVING
        self.deadline = self._loop.time() + LINGER
        if self._reading_holds:
            self._reading_holds = 0
            self._buffer_held = False
            self.transport.resume_reading()
        self.uncork()
        self._write_eof()

    def _write_eof(self) -> None:
        with contextlib.suppress(OSError):  # the visitor has just reset; asyncio will tell
            self.transport.write_eof()

    def _close(self) -> None:
        self.phase = GONE
        self.deadline = self._loop.time() + self._limits.body_timeout  # for a peer that takes nothing
        self.uncork()
        self.transport.close()

    def _finish(self, outcome: Outcome) -> None:
        if self._upstream is not None:
            self._leave_upstream().finish()
        self._report(outcome)
        self._close()

    def _abandon(self) -> None:
        """The visitor is gone: so is what was under way for it."""
        if self._upstream is not None:
            self._leave_upstream().close()
        self._stop_waiting()
        self._report(ANSWERED if self.phase is RAW else ABORTED)
        if self.phase is not GONE:
            self._close()

    def _report(self, outcome: Outcome) -> None:
        """Count the exchange, once."""
        if self._outcome is None:
            return
        self._outcome = None
        self._relay.finished(
            self,
            self._client_id,
            self._status,
            outcome,
            self._started,
            self._first_byte,
            self._bytes_in,
            self._bytes_out,
        )

    def timed_out(self, now: float) -> None:
        """The deadline passed; bytes that moved since the last look count as a new start."""
        if self.moved and self.phase in (EXCHANGE, RAW):
            self.moved = False
            self.deadline = now + self._idle_limit()
            return
        match self.phase:
            case Phase.HEAD if self._head_began:
                self._refuse(answers.bad_request(408, "the head did not arrive in time"))
            case Phase.HEAD:
                self._close()
            case Phase.WAITING:
                self._refuse(answers.overloaded(2))
            case Phase.EXCHANGE if not self._body.done and not self._reading_holds and not self._answering:
                self._refuse(answers.bad_request(408, "the body did not arrive in time"))
            case Phase.EXCHANGE if not self._answering:
                self._refuse(answers.timed_out(self._limits.response_timeout))
            case Phase.EXCHANGE | Phase.RAW | Phase.LEAVING | Phase.GONE:
                self._abandon()
                self.transport.abort()

    def _idle_limit(self) -> float:
        if self.phase is EXCHANGE and not self._answering:
            return self._limits.response_timeout if self._body.done else self._limits.body_timeout
        return self._limits.idle_timeout

    def server_stops(self) -> bool:
        """Close if nothing is under way; true if something is, or may be, after which it closes by itself."""
        self._keep_alive = False
        if self.phase is HEAD and not self._head_began and not self._has_just_come():
            self._close()
        return self.phase in (HEAD, WAITING, EXCHANGE)

    def _has_just_come(self) -> bool:
        """Tell whether the first request may be on its way: the port was open when the visitor called."""
        came = self.deadline - self._limits.head_timeout
        return not self._started and self._loop.time() < came + FIRST_WORDS

    @property
    def tunnel(self) -> Tunnel | None:
        """The tunnel of the request."""
        return None if self._pool is None else self._pool.tunnel

    @property
    def access_line(self) -> dict[str, str]:
        """What the access log says of the request."""
        return self._introduction.access_line(getattr(self, "_request", None))
