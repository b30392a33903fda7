"""The HTTP port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tunnel_server.adapters.proxy.visitor import Visitor
from tunnel_server.domain.arrival import Arrival
from tunnel_server.domain.errors import ListenerFailed

if TYPE_CHECKING:
    from tunnel_server.adapters.proxy.relay import Relay


Peer = tuple[str, int] | None
Accept = Callable[[], asyncio.BaseProtocol]
# Gives a connection's first protocol: the first of these two, or, behind a proxy that tells of visitors, one that
# calls the second with the address told and what was received behind it.
Door = Callable[[Accept, Callable[[asyncio.Transport, Peer, bytes], None]], Accept]

# Probing the visitor's host: one that vanished without a word is noticed within about 90 s.
KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 30, 15, 4


class HttpListener:
    """Listens while entered; leaving lets requests in flight finish for ``grace`` seconds.

    Raises:
        ListenerFailed: on entering, when the port cannot be had.
    """

    def __init__(self, relay: Relay, address: tuple[str, int], grace: float, door: Door) -> None:
        self._relay = relay
        self._address = address
        self._grace = grace
        self._door = door
        self._server: asyncio.Server | None = None
        self._sweep: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port listened on, also where the system chose it."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        relay = self._relay
        relay.loop = loop
        host, port = self._address
        limits = relay.limits
        try:
            self._server = await loop.create_server(
                self._door(lambda: Visitor(relay), self._receive),
                host or None,
                port,
                backlog=limits.backlog,
                start_serving=False,
            )
            for sock in self._server.sockets:
                _set_options(sock, limits.socket_buffer)
            await self._server.start_serving()
        except OSError as error:
            raise ListenerFailed(f"cannot listen for HTTP on port {port}: {error.strerror or error}") from None
        self._sweep = loop.create_task(relay.sweep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_accepting()
        await self._relay.drain(self._grace)
        await self._relay.abort()
        assert self._sweep is not None
        self._sweep.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._sweep

    def protocol(self, arrival: Arrival) -> asyncio.Protocol:
        """Return the protocol of a new visitor's connection that speaks HTTP/1.1."""
        return Visitor(self._relay, arrival)

    def http2(self, arrival: Arrival) -> asyncio.Protocol:
        """Return the protocol of a new visitor's connection that speaks HTTP/2."""
        from tunnel_server.adapters.proxy.http2.connection import Http2Connection  # only who is visited so pays for h2

        return Http2Connection(self._relay, arrival)

    def _receive(self, transport: asyncio.Transport, peer: Peer, received: bytes) -> None:
        """Take over a connection of a visitor whose address a proxy told."""
        visitor = self.protocol(Arrival(peer=peer))
        transport.set_protocol(visitor)
        visitor.connection_made(transport)
        if received:
            visitor.data_received(received)

    def stop_accepting(self) -> None:
        """Close the port; connections stay."""
        if self._server is not None:
            self._server.close()


def _set_options(sock: socket.socket, buffer: int) -> None:
    """Set a listening socket's options, which those accepted from it inherit: no call for each of them."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
    if buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
