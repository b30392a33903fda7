"""One stream: a request in, its answer out, over a channel of its tunnel's pool.

It does what :class:`tunnel_server.adapters.proxy.visitor.Visitor` does for one exchange, and says so in frames.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from h2.errors import ErrorCodes

from tunnel_server.adapters.proxy import answers
from tunnel_server.adapters.proxy.head import END, RequestHead, ResponseHead, parse_response
from tunnel_server.adapters.proxy.http2.control import control_upstream
from tunnel_server.adapters.proxy.http2.fields import answer_fields, trailer_fields
from tunnel_server.adapters.proxy.http2.outgoing import Outgoing
from tunnel_server.adapters.proxy.http2.record import Record
from tunnel_server.adapters.proxy.http2.upload import Upload
from tunnel_server.adapters.proxy.judgement import Judgement
from tunnel_server.adapters.proxy.visitor import EXCHANGE, GONE, HEAD, LEAVING, RAW, WAITING
from tunnel_server.adapters.proxy.write import NO_BODY, Framing, insist_on_tls, request_bytes
from tunnel_server.domain.forwarding import without_our_cookies
from tunnel_server.domain.metrics import Outcome
from tunnel_server.domain.routing import Surface

if TYPE_CHECKING:
    from tunnel_server.adapters.proxy.http2.connection import Http2Connection
    from tunnel_server.adapters.proxy.pool import Pool
    from tunnel_server.adapters.proxy.upstream import Upstream
    from tunnel_server.domain.forwarding import Field
    from tunnel_server.domain.tunnel import Tunnel

ANSWERED, ABORTED = Outcome.ANSWERED, Outcome.ABORTED
_MAX_FIELDS = 1000


class Stream:
    """An exchange of a visitor's connection; both the pool's waiter and its upstream's visitor."""

    __slots__ = (
        "_answering",
        "_connection",
        "_cookie_path",
        "_fresh_channel",
        "_path",
        "_paused",
        "_pool",
        "_raw_ended",
        "_record",
        "_relay",
        "_request",
        "_sent",
        "_upstream",
        "channel_is_coming",
        "corked",
        "deadline",
        "id",
        "judgement",
        "moved",
        "outgoing",
        "phase",
        "queued",
        "upload",
        "visitor",
    )

    def __init__(self, connection: Http2Connection, stream_id: int) -> None:
        self.id = stream_id
        self._connection = connection
        self._relay = connection.relay
        self.visitor = connection.introduction.visitor
        self.phase = HEAD
        self.deadline = inf
        self.moved = False
        self.corked = False
        self.queued = False  # it waits for its turn to send, or for a window
        self.channel_is_coming = False
        self.upload = Upload(connection.spare)
        self.outgoing = Outgoing()
        self._record = Record()
        self._request: RequestHead | None = None
        self._pool: Pool | None = None
        self.judgement: Judgement | None = None
        self._path = b""
        self._upstream: Upstream | None = None
        self._sent = b""
        self._cookie_path = b""
        self._fresh_channel = False
        self._answering = False
        self._paused = False
        self._raw_ended = False

    # the connection calls these

    def request(self, head: RequestHead, octets: int) -> None:
        """Take the request's head; what else came with it may follow before :meth:`start`."""
        self._request = head
        self.upload.begin(head)
        self._record.bytes_in = octets

    def data(self, payload: bytes, octets: int) -> None:
        """Take a piece of the body, which with its padding took ``octets`` of the windows.

        Raises:
            StreamViolation: it is more than was announced.
        """
        self._record.bytes_in += octets
        if self._takes_body():
            self.moved = True
            self.upload.add(payload, octets)

    def end(self, trailers: list[Field] | None) -> None:
        """The visitor sends nothing more on this stream.

        Raises:
            StreamViolation: it is less than was announced, or the trailers are malformed.
        """
        self.upload.ended = True
        if self._takes_body():
            self.upload.end(trailers)

    def _takes_body(self) -> bool:
        return self._request is not None and self.phase is not LEAVING and self.phase is not GONE

    def start(self) -> None:
        """Go on with the request, now that what came with its head is here."""
        request = self._request
        if request is None or self.phase is not HEAD:
            return
        self.upload.measure()
        relay, connection, introduction = self._relay, self._connection, self._connection.introduction
        self.visitor = introduction.visitor_of(request)
        misplaced = None if introduction.knows(request.host) else relay.misplaced(request, connection.arrival)
        found = misplaced or relay.find(request, introduction.scheme(request))
        if isinstance(found, answers.Problem):
            self.refuse(found)
            return
        if isinstance(found, Surface):
            self._sent = request_bytes(request, request.path, introduction.fields(request))
            self.channel_ready(control_upstream(lambda: relay.control(found), connection.transport))
            return
        pool, self._path, self._cookie_path = found
        self._pool = pool
        self._record.client_id = pool.client_id
        if pool.rules is None:
            self.allowed()
            return
        self.phase = WAITING
        self.judgement = Judgement(pool.rules, request, self._path, introduction, self)
        self.judgement.begin(relay.loop)

    # the judgement calls these, and at once if there is none

    def allowed(self) -> None:
        """Send the request to the service."""
        request, pool = self._request, self._pool
        assert request is not None and pool is not None
        if request.has_our_cookies:
            request.lines = without_our_cookies(request.lines)
        self._sent = request_bytes(request, self._path, self._connection.introduction.fields(request))
        upstream = pool.take(self.visitor, request.replayable)
        self._fresh_channel = upstream is None
        if upstream is not None:
            self.channel_ready(upstream)
        else:
            self._wait(pool)

    def _wait(self, pool: Pool) -> None:
        self.phase = WAITING
        self._set_deadline(self._relay.limits.queue_timeout)
        if pool.closed:
            self.refuse(self._relay.gone(pool.tunnel))
        elif not pool.request(self):
            self.refuse(answers.overloaded(1))

    # the pool calls these

    def channel_coming(self) -> None:
        self.channel_is_coming = True
        self.deadline = inf

    def channel_ready(self, upstream: Upstream) -> None:
        self.channel_is_coming = False
        if self.phase is GONE or self.phase is LEAVING:
            upstream.release_unused()
            self._connection.channel_came(self)
            return
        request = self._request
        assert request is not None
        self.phase = EXCHANGE
        self._upstream = upstream
        first = self._sent if request.upgrade else self._sent + self.upload.take()
        self._set_exchange_deadline()
        upstream.begin(self, request, first)
        if self._upstream is upstream:
            self._give_credit()

    def channel_failed(self, reason: str) -> None:
        self.channel_is_coming = False
        if self.phase is WAITING:
            self.refuse(answers.unreachable(reason))
        else:
            self._connection.channel_came(self)

    # sending the request's body

    def pass_on(self) -> None:
        """Send the service what came of the body in this turn."""
        upstream, request = self._upstream, self._request
        if upstream is None or request is None or (request.upgrade and self.phase is not RAW):
            return
        data = self.upload.take()
        if data:
            upstream.write(data)
        if self._upstream is not upstream:  # writing told that it is gone
            return
        if not self.upload.ended:
            self._give_credit()
        elif self.phase is RAW:
            self._end_raw(upstream)
        else:
            self._set_exchange_deadline()

    def _give_credit(self) -> None:
        if self._upstream is not None and not self._upstream.writing_paused:
            octets = self.upload.credit()
            if octets:
                self._connection.credit(octets, self.id)

    def hold_reading(self) -> None:
        """Nothing to do: no credit is given while the upstream is paused."""

    def unhold_reading(self) -> None:
        """The service takes more again."""
        self._give_credit()

    @property
    def request_is_whole(self) -> bool:
        """Whether all of the request was sent to the service."""
        return self.upload.whole

    def _set_exchange_deadline(self) -> None:
        limits = self._relay.limits
        if not self.request_is_whole:
            wait = limits.body_timeout
        else:
            wait = limits.idle_timeout if self._answering else limits.response_timeout
        self._set_deadline(wait)

    def _set_deadline(self, wait: float) -> None:
        self.deadline = self._relay.loop.time() + wait
        self._connection.expect(self.deadline)

    # the upstream calls these

    def interim(self, head: ResponseHead) -> None:
        """Pass on a 1xx answer."""
        self.moved = True
        self._send_head(head)

    def answered(self, head: ResponseHead, how: Framing) -> None:
        """Pass on the head of the final answer."""
        self.moved = True
        self._answering = True
        self._record.answered(head.status)
        if self._connection.hsts:
            insist_on_tls(head, self._connection.hsts)
        self._send_head(head, self._cookie_path)
        self._set_deadline(self._relay.limits.idle_timeout)

    def _send_head(self, head: ResponseHead, cookie_path: bytes = b"") -> None:
        octets = self.outgoing.head(answer_fields(head, cookie_path))
        self._record.bytes_out += octets
        self._say(octets)

    def answer_body(self, payload: bytes, how: Framing) -> None:
        """Pass on a piece of the answer's body."""
        self.moved = True
        self._send_data(payload)

    def _send_data(self, payload: bytes) -> None:
        self._record.bytes_out += len(payload)
        self.outgoing.data(payload)
        self._say(len(payload))

    def answer_ended(self, how: Framing, trailers: list[Field]) -> None:
        """End the answer."""
        complete = self.request_is_whole
        upstream = self._leave_upstream()
        if complete and not self._paused:
            upstream.release()
        else:
            # Answered before the request was whole, or paused: what is still to come of it, on either side, would
            # be taken for a part of the next exchange.
            upstream.close()
        self._finish(ANSWERED, [] if how is NO_BODY else trailer_fields(trailers))

    def upstream_failed(self, reason: str, *, answered: bool, untouched: bool) -> None:
        """The channel broke: try once more, answer 502, or let the visitor see that the answer is cut short."""
        pool, request = self._pool, self._request
        self._leave_upstream()
        if answered:
            self._record.outcome = Outcome.UNREACHABLE
            self._break_off(ErrorCodes.INTERNAL_ERROR)
        elif untouched and not self._fresh_channel and request is not None and request.replayable and pool is not None:
            self._fresh_channel = True
            self._wait(pool)
        else:
            self.refuse(answers.unreachable(reason))

    def switched(self, head: ResponseHead) -> None:
        """The service speaks websocket: from here on bytes are just bytes (RFC 8441 §5)."""
        self.phase = RAW
        self._answering = True
        self._record.answered(101)
        self._set_deadline(self._relay.limits.idle_timeout)
        lines = [line for line in head.lines if not line.lower().startswith(b"sec-websocket-accept:")]
        self._send_head(ResponseHead(200, b"", lines, -1, True, b""))
        self.pass_on()

    def raw_received(self, data: bytes) -> None:
        """Pass on raw bytes."""
        if not self._raw_ended:  # what comes behind its end cannot be said in frames
            self.moved = True
            self._send_data(data)

    def raw_ended(self) -> None:
        """The service sends nothing more; the visitor may."""
        if self._raw_ended:
            return
        self._raw_ended = True
        self.outgoing.end([])
        self._say()
        if self.upload.ended:
            self._close_raw()

    def raw_lost(self) -> None:
        """The channel of a websocket is gone."""
        self._upstream = None
        self._finish(ANSWERED, [])

    def _end_raw(self, upstream: Upstream) -> None:
        upstream.channel.write_eof()
        if self._raw_ended:
            self._close_raw()

    def _close_raw(self) -> None:
        self._leave_upstream().finish()
        self._finish(ANSWERED, [])

    def uncork(self) -> None:
        """Send what was kept: nothing to do, since frames always wait for their turn."""
        self.corked = False

    # sending

    def _say(self, octets: int = 0) -> None:
        """Ask for a turn to send, ``octets`` more than before; hold the service back if that is too much."""
        sender = self._connection.sender
        sender.waiting += octets
        if not self.queued:
            sender.add(self)
            self._connection.send_soon()
        if not self._paused and self.outgoing.size > sender.room and self._upstream is not None:
            self._paused = True
            self._upstream.channel.pause_reading()

    def sent(self) -> None:
        """Some went: there may be room for more."""
        self.moved = True
        if self._paused and self.outgoing.size <= self._connection.sender.room >> 1:
            self._paused = False
            if self._upstream is not None:
                self._upstream.channel.resume_reading()

    def sent_all(self) -> None:
        """The end went, too."""
        if self._upstream is None:
            self._report(self._record.outcome or ANSWERED)
            self.phase = GONE

    # endings

    def _leave_upstream(self) -> Upstream:
        upstream = self._upstream
        assert upstream is not None
        self._upstream = None
        return upstream

    def _finish(self, outcome: Outcome, trailers: list[Field]) -> None:
        self.phase = LEAVING
        self._record.outcome = outcome
        self._set_deadline(self._relay.limits.idle_timeout)
        self.outgoing.end(trailers)
        self._say()

    def _break_off(self, code: ErrorCodes) -> None:
        self.phase = LEAVING
        self._set_deadline(self._relay.limits.body_timeout)
        self.outgoing.break_off(code)
        self._say()

    def refuse(self, problem: answers.Problem) -> None:
        """Answer ``problem`` ourselves."""
        if self._upstream is not None:
            self._leave_upstream().close()
        self._stop_waiting()
        self.upload.drop()
        self._record.outcome = problem.outcome
        if self._answering:  # too late for another answer
            self._break_off(ErrorCodes.INTERNAL_ERROR)
            return
        request = self._request
        answer = answers.answer_bytes(problem, request.accept if request else b"", True, self._connection.hsts)
        at = answer.index(END) + len(END)
        self._record.status = problem.status
        self._send_head(parse_response(answer[:at], _MAX_FIELDS))
        if request is None or request.method != b"HEAD":
            self._send_data(answer[at:])
        self._finish(problem.outcome, [])
        self._set_deadline(self._relay.limits.body_timeout)

    def _stop_waiting(self) -> None:
        """Want no channel any more, nor what a policy says."""
        if self._pool is not None and self.phase is WAITING:
            self._pool.withdraw(self)
            if self.judgement is not None:
                self.judgement.cancel()

    def abandon(self, outcome: Outcome = ABORTED) -> None:
        """The visitor is gone, or is to be: so is what was under way for it."""
        phase = self.phase
        if phase is GONE:
            return
        self._stop_waiting()
        self.phase = GONE
        self.deadline = inf
        if self._upstream is not None:
            self._leave_upstream().close()
        self.upload.drop()
        if phase is LEAVING and self._record.outcome is not ANSWERED:
            outcome = self._record.outcome or outcome
        self._report(ANSWERED if phase is RAW and outcome is ABORTED else outcome)

    def _report(self, outcome: Outcome) -> None:
        """Count the exchange, once."""
        self.upload.close()
        self._record.tell(self._relay, self, outcome)

    def timed_out(self, now: float) -> None:
        """The deadline passed; bytes that moved since the last look count as a new start."""
        if self.moved and self.phase in (EXCHANGE, RAW, LEAVING):
            self.moved = False
            if self.phase is LEAVING:
                self._set_deadline(self._relay.limits.idle_timeout)
            else:
                self._set_exchange_deadline()
            return
        upstream = self._upstream
        if self.phase is WAITING:
            self.refuse(answers.overloaded(2))
        elif self.phase is EXCHANGE and not self._answering:
            if not self.request_is_whole and upstream is not None and not upstream.writing_paused:
                self.refuse(answers.bad_request(408, "the body did not arrive in time"))
            else:
                self.refuse(answers.timed_out(self._relay.limits.response_timeout))
        else:
            self._connection.cut(self, ErrorCodes.CANCEL)

    @property
    def tunnel(self) -> Tunnel | None:
        """The tunnel of the request."""
        return None if self._pool is None else self._pool.tunnel

    @property
    def access_line(self) -> dict[str, str]:
        """What the access log says of the request."""
        return self._connection.introduction.access_line(self._request)
