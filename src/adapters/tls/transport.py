"""TLS on a connection: the protocol of its socket, and the transport of what is spoken inside.

The loop's own TLS wraps a transport in another and hides the first bytes; here they are ours, so that the port can
be shared, handshakes take turns, and what is spoken inside is given this transport at once: no second socket, no
copying task. Works with any event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from time import perf_counter
from typing import Any, Self, cast

Begin = Callable[[ssl.MemoryBIO, ssl.MemoryBIO], ssl.SSLObject | None]
Peer = tuple[str, int] | None

RECORD = 16 * 1024  # bytes of one record, RFC 8446 §5.1: what is read or written in one step
HEAD = 5  # bytes of a record before its payload; the last two are the payload's length
CIPHERTEXT = RECORD + 2048  # bytes of a record's payload at most, RFC 5246 §6.2.3
IDLE = 32  # records in a row that carry no data, such as key updates, which cost the server more than the peer
DELIVERED = 32 * 1024  # bytes given to the protocol inside in one piece; SSH may have a packet in each 16 of them
WRITTEN = 64 * 1024  # bytes encrypted before the socket gets them: what OpenSSL once buffered it keeps allocated
TURN = 0.002  # seconds one peer's records may keep the loop; tiny ones cost as much as large ones
HANDSHAKE = 128 * 1024  # bytes a peer may send ahead in its handshake; certificates of clients are not asked for
UNREAD = 1024 * 1024  # bytes received that the protocol inside does not want yet, before the socket is read no more
UNTAKEN = 1024 * 1024  # bytes a peer has not taken, beyond which it gets no more alerts, but is cut off


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """Both sides of one TLS connection.

    It begins as the socket's protocol in a handshake: each arrival of bytes calls ``ready``, which has to see to it
    that :meth:`handshake` is called; ``lost`` is called if the connection ends before. Once the handshake is done,
    :meth:`start` gives the connection to a protocol. ``tls`` is what was negotiated.
    """

    __slots__ = (
        "__weakref__",  # as the loops' own have
        "_closing",
        "_eof",
        "_idle",
        "_incoming",
        "_inside",
        "_outgoing",
        "_paused",
        "_peer",
        "_received",
        "_started",
        "_transport",
        "_turn_due",
        "lost",
        "ready",
        "tls",
    )

    def __init__(
        self, transport: asyncio.Transport, tls: ssl.SSLObject, bios: tuple[ssl.MemoryBIO, ssl.MemoryBIO], peer: Peer
    ) -> None:
        self._transport = transport
        self.tls = tls
        self._incoming, self._outgoing = bios
        self._peer = peer
        self._inside: Any = None
        self._received = b""  # not given to OpenSSL yet, from the beginning of a record on
        self._idle = 0
        self.ready: Callable[[], None] | None = None
        self.lost: Callable[[], None] | None = None
        self._started = self._closing = self._eof = self._paused = self._turn_due = False

    @classmethod
    def accept(cls, transport: asyncio.Transport, begin: Begin, peer: Peer) -> Self | None:
        """Return the server's side on ``transport``; ``None`` if ``begin`` has no certificate for it.

        ``peer`` is the peer's address where a trusted proxy told it.
        """
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = begin(incoming, outgoing)
        return None if tls is None else cls(transport, tls, (incoming, outgoing), peer)

    # the handshake

    def handshake(self) -> bool:
        """Take the handshake as far as what was received goes; true once it is done.

        Raises:
            ssl.SSLError: it failed; the alert that tells the peer is on its way.
        """
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self._flush()
        return True

    def start(self, protocol: asyncio.Protocol) -> None:
        """Give the connection, whose handshake is done, to ``protocol``, with what was received already."""
        self.ready = self.lost = None
        self._started = True
        self._inside = protocol
        self._received = self._incoming.read()  # a handshake ends where a record does
        protocol.connection_made(self)
        if self._received and not self._paused and not self._transport.is_closing():
            self._deliver()

    # the socket's protocol

    def data_received(self, data: bytes) -> None:
        if not self._started:
            self._incoming.write(data)
            if self._incoming.pending > HANDSHAKE:
                self._transport.abort()
            elif self.ready is not None:
                self.ready()
        elif not self._eof:
            self._received = self._received + data if self._received else data
            if not self._paused and not self._turn_due:
                self._deliver()
            elif len(self._received) > UNREAD:
                self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Close, unless close_notify came before: without it the end may be an attacker's (RFC 8446 §6.1)."""
        return self._eof

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._received = b""
        inside, lost = self._inside, self.lost
        self._inside = self.ready = self.lost = None  # or they would hold each other, and OpenSSL's buffers
        if self._started:
            inside.connection_lost(exc)
        elif lost is not None:
            lost()

    def pause_writing(self) -> None:
        if self._inside is not None:
            self._inside.pause_writing()

    def resume_writing(self) -> None:
        if self._inside is not None:
            self._inside.resume_writing()

    # reading

    def _deliver(self) -> None:
        """Decrypt what was received, record by record, and give it to the protocol inside, for a turn."""
        received = self._received
        try:
            if end_of_record(received, 0) == len(received):  # by far the most common
                self._received = b""
                data = self._next_record(received)
                if data:
                    self._inside.data_received(data)
            else:
                self._deliver_many(received)
        except ssl.SSLZeroReturnError:
            self._ended()
        except ssl.SSLError:
            self._break()

    def _deliver_many(self, received: bytes) -> None:
        deadline = perf_counter() + TURN
        view = memoryview(received)
        pieces: list[bytes] = []
        size = at = 0
        ended = False
        try:
            while (end := end_of_record(received, at)) and size < DELIVERED and (not at or perf_counter() < deadline):
                data = self._next_record(view[at:end])
                at = end
                pieces.append(data)
                size += len(data)
        except ssl.SSLZeroReturnError:
            ended, end = True, 0
        self._received = b"" if ended else received[at:]
        if end and not self._transport.is_closing():
            self._turn_due = True
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._next_turn)
        if size:
            self._inside.data_received(b"".join(pieces))
        if ended:
            self._ended()

    def _next_record(self, record: bytes | memoryview) -> bytes:
        """Return the data in ``record``; nothing, if it carries none.

        OpenSSL gets one record at a time: it would go through any number of those without data in one call.

        Raises:
            ssl.SSLZeroReturnError: it is the peer's close_notify.
            ssl.SSLError: it cannot be decrypted, or is one too many without data.
        """
        self._incoming.write(record)
        try:
            data = self.tls.read(RECORD)
        except ssl.SSLWantReadError:
            self._idle += 1
            if self._idle > IDLE or (self._outgoing.pending and self.get_write_buffer_size() > UNTAKEN):
                raise ssl.SSLError("too many records without data") from None
            self._flush()  # the alert that refuses a renegotiation
            return b""
        if not data:
            raise ssl.SSLZeroReturnError
        self._idle = 0
        return data

    def _break(self) -> None:
        """End a connection on which the peer broke the rules, once the alert that tells it so is sent."""
        self._flush()
        self._closing = True
        if self.get_write_buffer_size() > UNTAKEN:
            self._transport.abort()
        else:
            self._transport.close()

    def _next_turn(self) -> None:
        self._turn_due = False
        if self._paused or self._transport.is_closing():
            return
        self._transport.resume_reading()
        try:
            self._deliver()
        except Exception as error:  # as the loop does when it calls data_received itself
            asyncio.get_running_loop().call_exception_handler(
                {"message": "data_received inside TLS failed", "exception": error, "transport": self}
            )
            self.abort()

    def _ended(self) -> None:
        """The peer sends nothing more, and says so."""
        if not self._eof and not self._transport.is_closing():
            self._eof = True
            if not self._inside.eof_received():
                self.close()

    # the transport of what is spoken inside

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._closing:
            return
        size = len(data)
        view = data if size <= WRITTEN else memoryview(data)
        try:
            for at in range(0, size, WRITTEN):
                self.tls.write(view[at : at + WRITTEN])  # whole: memory takes all of it
                self._transport.write(self._outgoing.read())
        except ssl.SSLError:  # the connection is broken, which reading it tells, too
            self.abort()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Say that nothing more is sent; the peer still may (RFC 8446 §6.1)."""
        if not self._closing:
            self._closing = True
            self._notify()
            if not self._transport.is_closing():
                self._transport.write_eof()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._notify()
        self._transport.close()

    def abort(self) -> None:
        self._closing = True
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        self._paused = True
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            if not self._turn_due and not self._transport.is_closing():
                self._turn_due = True
                asyncio.get_running_loop().call_soon(self._next_turn)

    def is_reading(self) -> bool:
        return not self._paused

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._transport.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._inside = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return cast(asyncio.BaseProtocol, self._inside)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        match name:
            case "peername" if self._peer is not None:
                return self._peer
            case "ssl_object":
                return self.tls
            case "sslcontext":
                return self.tls.context
            case "cipher":
                return self.tls.cipher()
            case _:
                return self._transport.get_extra_info(name, default)

    def _notify(self) -> None:
        """Send close_notify."""
        with contextlib.suppress(ssl.SSLError, ValueError):
            self.tls.unwrap()  # looks for the peer's, too, and finds nothing: what was received is with us
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending and not self._transport.is_closing():
            self._transport.write(self._outgoing.read())


def end_of_record(received: bytes, at: int) -> int:
    """Return where the record at ``at`` ends; 0 as long as it is not whole. What is none ends where all ends."""
    size = len(received)
    if size < at + HEAD:
        return 0
    length = received[at + 3] << 8 | received[at + 4]
    if received[at + 1] != 3 or not length or length > CIPHERTEXT:
        return size  # OpenSSL tells the peer what is wrong with it
    end = at + HEAD + length
    return end if end <= size else 0
