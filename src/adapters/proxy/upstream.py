"""The service's side of an exchange: one channel, the answers that come out of it."""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import Protocol

from tunnel_server.adapters.proxy.body import BodyReader, body_reader
from tunnel_server.adapters.proxy.head import END, UNTIL_CLOSE, BadMessage, RequestHead, ResponseHead, parse_response
from tunnel_server.adapters.proxy.write import NO_BODY, Framing, framing
from tunnel_server.domain.forwarding import Field, bared
from tunnel_server.domain.ports import Channel, ChannelReceiver

MAX_ANSWER_HEAD = 64 * 1024  # octets
MAX_ANSWER_FIELDS = 1000
END_WITHIN = 10.0  # seconds a service has to take the rest of what was written
MAX_INTERIM = 100  # 1xx answers before a final one


class _In(Enum):
    IDLE = auto()  # in the pool
    HEAD = auto()
    BODY = auto()
    RAW = auto()
    ENDING = auto()  # what was written is still to be sent
    CLOSED = auto()


# By name of their own: to look a member up in its class takes longer than to compare it.
_IDLE, _HEAD, _BODY, _RAW, _ENDING, _CLOSED = _In


class Exchange(Protocol):
    """The visitor's side of an exchange: hears the answer, and whether the service takes the request.

    While ``corked``, what is written may wait for :meth:`uncork`.
    """

    corked: bool

    @property
    def request_is_whole(self) -> bool:
        """Whether the request's body was read to its end."""

    def interim(self, head: ResponseHead) -> None:
        """Pass on a 1xx answer other than 101."""

    def answered(self, head: ResponseHead, how: Framing) -> None:
        """Pass on the head of the final answer."""

    def answer_body(self, payload: bytes, how: Framing) -> None:
        """Pass on a piece of the answer's body."""

    def answer_ended(self, how: Framing, trailers: list[Field]) -> None:
        """The answer is whole: give the upstream back, or close it."""

    def upstream_failed(self, reason: str, *, answered: bool, untouched: bool) -> None:
        """The upstream is gone; ``untouched``: before a byte of the answer came."""

    def switched(self, head: ResponseHead) -> None:
        """Pass on a 101; from here on bytes are just bytes."""

    def raw_received(self, data: bytes) -> None:
        """Pass on raw bytes."""

    def raw_ended(self) -> None:
        """The service sends no more raw bytes; the visitor may."""

    def raw_lost(self) -> None:
        """The channel of an upgraded connection is gone."""

    def hold_reading(self) -> None:
        """Take no more of the request from the visitor: the service is behind."""

    def unhold_reading(self) -> None:
        """Take more again."""

    def uncork(self) -> None:
        """Send what was kept."""


class AnswerWithheld(Exception):
    """An answer is not passed on, and not for a fault of the service."""


class Keeper(Protocol):
    """Whose an upstream is when no visitor has it. ``changes_answers`` tells that :meth:`answering` is to see all."""

    changes_answers: bool

    def answering(self, head: ResponseHead) -> None:
        """Change the head of an answer, 1xx or final, before its visitor gets it.

        Raises:
            AnswerWithheld: the visitor must not get it.
        """

    def release(self, upstream: Upstream) -> None:
        """Take it back: both sides ended cleanly."""

    def lost(self, upstream: Upstream) -> None:
        """Forget it: its channel is gone."""


class Upstream(ChannelReceiver):
    """A channel to a tunnel's service. It serves one visitor at a time, and never holds what one left."""

    __slots__ = (
        "_body",
        "_buffer",
        "_ending",
        "_how",
        "_in",
        "_interim",
        "_keep_alive",
        "_pool",
        "_request",
        "_until_close",
        "_visitor",
        "channel",
        "idle_since",
        "lent_to",
        "writing_paused",
    )

    channel: Channel
    _request: RequestHead
    _how: Framing
    _ending: asyncio.TimerHandle
    _until_close: bool
    _keep_alive: bool
    _interim: int

    def __init__(self, pool: Keeper) -> None:
        self._pool = pool
        self._in = _IDLE
        self._visitor: Exchange | None = None
        self._buffer = b""
        self._body: BodyReader | None = None
        self.idle_since = 0.0
        self.lent_to: str | None = None  # the visitor whose share it counts to
        self.writing_paused = False

    def attach(self, channel: Channel) -> None:
        """Take the channel that was opened for this upstream."""
        self.channel = channel
        if self._in is _CLOSED:
            channel.abort()

    @property
    def closed(self) -> bool:
        """Whether the channel is of no more use."""
        return self._in is _CLOSED

    def begin(self, visitor: Exchange, request: RequestHead, data: bytes) -> None:
        """Send ``data``, the head of ``request``, and give the answer to ``visitor``."""
        self._visitor = visitor
        self._request = request
        self._interim = 0
        self._keep_alive = False
        self._in = _HEAD
        self.channel.write(data)

    def write(self, data: bytes) -> None:
        """Send more of the request."""
        self.channel.write(data)

    def release(self) -> None:
        """The exchange is over on both sides: keep the channel for another, if it may be."""
        self._visitor = None
        self._body = None
        if self._in is _CLOSED:
            return
        if not self._keep_alive or self._buffer:
            self.close()
            return
        self._in = _IDLE
        self._pool.release(self)

    def release_unused(self) -> None:
        """Nobody wants the channel any more that was opened for somebody."""
        self._pool.release(self)

    def finish(self) -> None:
        """Close the channel once everything written has been sent."""
        self._visitor = None
        if self._in is not _CLOSED:
            self._in = _ENDING
            self._ending = asyncio.get_running_loop().call_later(END_WITHIN, self.close)
            self.channel.close()

    def close(self) -> None:
        """Drop the channel, whatever is under way on it. Safe to repeat."""
        self._visitor = None
        if self._in is not _CLOSED:
            self._in = _CLOSED
            self._pool.lost(self)
            self.channel.abort()

    # the channel calls these

    def data_received(self, data: bytes) -> None:
        state = self._in
        if state is _BODY or state is _HEAD:
            visitor = self._visitor
            assert visitor is not None
            visitor.corked = True
            if state is _BODY:
                self._read_body(data, 0)
            else:
                self._read_head(data)
            visitor.uncork()
        elif state is _RAW:
            assert self._visitor is not None
            self._visitor.raw_received(data)
        elif state is _IDLE:
            self._fail("the service spoke without being asked")

    def eof_received(self) -> None:
        if self._in is _RAW:
            assert self._visitor is not None
            self._visitor.raw_ended()
        elif self._in is _BODY and self._until_close:
            self._complete()
        elif self._in is not _ENDING:
            self._fail("the service closed the connection")

    def connection_lost(self) -> None:
        if self._in is _RAW:
            visitor = self._visitor
            assert visitor is not None
            self._forget()
            visitor.raw_lost()
        else:
            self._fail("the connection to the service broke")

    def pause_writing(self) -> None:
        self.writing_paused = True
        if self._visitor is not None:
            self._visitor.hold_reading()

    def resume_writing(self) -> None:
        self.writing_paused = False
        if self._visitor is not None:
            self._visitor.unhold_reading()

    # reading an answer

    def _read_head(self, data: bytes) -> None:
        visitor = self._visitor
        assert visitor is not None
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        start = 0
        try:
            while self._in is _HEAD:
                end = data.find(END, start)
                if end < 0:
                    if len(data) - start > MAX_ANSWER_HEAD:
                        raise BadMessage("the answer's head is too long")
                    self._buffer = data[start:] if start else data
                    return
                head = parse_response(
                    data[start : end + 4] if start or end + 4 < len(data) else data, MAX_ANSWER_FIELDS
                )
                start = end + 4
                if head.sets_cookies or self._pool.changes_answers:
                    self._pool.answering(head)
                if self._request.bare:
                    head.lines, head.reason = bared(head.lines), b""
                if head.status == 101:
                    if (
                        self._request.bare
                        or not self._request.upgrade
                        or not head.upgrade
                        or not visitor.request_is_whole
                    ):
                        raise BadMessage("it switched protocols unasked")
                    self._in = _RAW
                    visitor.switched(head)
                    if start < len(data):
                        visitor.raw_received(data[start:])
                    return
                if head.status < 200:
                    self._interim += 1
                    if self._interim > MAX_INTERIM:
                        raise BadMessage("too many interim answers")
                    visitor.interim(head)
                    continue
                how, length = framing(self._request, head)
                self._how = how
                self._until_close = length == UNTIL_CLOSE
                # Some apps send a body after HEAD, too late to be told from the next answer.
                self._keep_alive = head.keep_alive and not self._until_close and self._request.method != b"HEAD"
                self._body = body_reader(length)
                if how is NO_BODY and self._request.bare:
                    head.length, self._keep_alive = 0, False
                self._in = _BODY
                visitor.answered(head, how)
        except BadMessage as error:
            self._buffer = data  # something came, so that the request is not to be sent again
            self._fail(f"it does not answer in HTTP ({error.reason})")
            return
        except AnswerWithheld as error:
            self._buffer = data
            self._fail(str(error))
            return
        if self._in is _BODY:
            self._read_body(data, start)

    def _read_body(self, data: bytes, start: int) -> None:
        visitor, body = self._visitor, self._body
        assert visitor is not None and body is not None
        size = len(data)
        while start < size and not body.done:
            try:
                payload, start = body.feed(data, start)
            except BadMessage as error:
                self._fail(f"its answer is broken ({error.reason})")
                return
            if payload:
                visitor.answer_body(payload, self._how)
        if not body.done:
            return
        if start < len(data):
            self._keep_alive = False  # more than was announced: whatever it is, no other visitor may see it
        self._complete()

    def _complete(self) -> None:
        visitor, body = self._visitor, self._body
        assert visitor is not None and body is not None
        visitor.answer_ended(self._how, body.trailers)

    def _fail(self, reason: str) -> None:
        """The channel broke; its visitor decides what that means for the request."""
        visitor, answered = self._visitor, self._in is _BODY
        if self._in is _CLOSED:
            return
        nothing_came = self._in is _HEAD and not self._buffer
        self._forget()
        if hasattr(self, "channel"):
            self.channel.abort()
        if visitor is not None:
            visitor.upstream_failed(reason, answered=answered, untouched=nothing_came)

    def _forget(self) -> None:
        if self._in is _ENDING:
            self._ending.cancel()
        self._in = _CLOSED
        self._visitor = None
        self._pool.lost(self)
