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
DELIVERED = 128 * 1024  # bytes given to the protocol inside in one piece
TURN = 0.002  # seconds one peer's records may keep the loop; tiny ones cost as much as large ones
HANDSHAKE = 128 * 1024  # bytes a peer may send ahead in its handshake; certificates of clients are not asked for
UNREAD = 1024 * 1024  # bytes received that the protocol inside does not want yet, before the socket is read no more


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """Both sides of one TLS connection.

    It begins as the socket's protocol in a handshake: each arrival of bytes calls ``ready``, which has to see to it
    that :meth:`handshake` is called; ``lost`` is called if the connection ends before. Once the handshake is done,
    :meth:`start` gives the connection to a protocol. ``tls`` is what was negotiated.
    """

    __slots__ = (
        "_closing",
        "_eof",
        "_incoming",
        "_inside",
        "_outgoing",
        "_paused",
        "_peer",
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
        protocol.connection_made(self)
        self._deliver()

    # the socket's protocol

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        if self._started:
            if not self._paused and not self._turn_due:
                self._deliver()
            elif self._incoming.pending > UNREAD:
                self._transport.pause_reading()
        elif self._incoming.pending > HANDSHAKE:
            self._transport.abort()
        elif self.ready is not None:
            self.ready()

    def eof_received(self) -> None:
        """Close: an end without close_notify may be an attacker's (RFC 8446 §6.1), so it is no end of a message."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        if self._started:
            self._inside.connection_lost(exc)
        elif self.lost is not None:
            self.lost()

    def pause_writing(self) -> None:
        if self._started:
            self._inside.pause_writing()

    def resume_writing(self) -> None:
        if self._started:
            self._inside.resume_writing()

    # reading

    def _deliver(self) -> None:
        """Decrypt what was received and give it to the protocol inside, for a turn."""
        tls, incoming = self.tls, self._incoming
        try:
            data = tls.read(RECORD)
            if not incoming.pending and not tls.pending():  # by far the most common
                if data:
                    self._inside.data_received(data)
                else:
                    self._ended()
                return
            self._deliver_many(data)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._ended()
        except ssl.SSLError:
            self._flush()  # the alert
            self._transport.abort()

    def _deliver_many(self, data: bytes) -> None:
        deadline = perf_counter() + TURN
        pieces, size = [data], len(data)
        ended = not data
        try:
            while size < DELIVERED and not ended and perf_counter() < deadline:
                data = self.tls.read(RECORD)
                pieces.append(data)
                size += len(data)
                ended = not data
            more = not ended
        except ssl.SSLWantReadError:
            more = False
        except ssl.SSLZeroReturnError:
            ended, more = True, False
        if more:
            self._turn_due = True
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._next_turn)
        if size:
            self._inside.data_received(b"".join(pieces))
        if ended:
            self._ended()

    def _next_turn(self) -> None:
        self._turn_due = False
        if self._paused or self._transport.is_closing():
            return
        self._transport.resume_reading()
        self._deliver()

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
        try:
            written = self.tls.write(data) if size else 0
            if written < size:
                view = memoryview(data)
                while written < size:
                    written += self.tls.write(view[written : written + RECORD])
        except ssl.SSLError:  # the connection is broken, which reading it tells, too
            self.abort()
            return
        self._transport.write(self._outgoing.read())

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
        unread = self._incoming.read()  # OpenSSL looks for the peer's at once, and takes data before it for an error
        with contextlib.suppress(ssl.SSLError, ValueError):
            self.tls.unwrap()
        self._incoming.write(unread)
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending and not self._transport.is_closing():
            self._transport.write(self._outgoing.read())
