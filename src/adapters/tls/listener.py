"""The TLS port: HTTPS and SSH, the latter with and without TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tunnel_server.adapters.tls.doorman import Doorman, Gate, Inner
from tunnel_server.adapters.tls.lobby import Lobby
from tunnel_server.adapters.tls.proxied import Door, Peer
from tunnel_server.adapters.tls.turns import Turns
from tunnel_server.domain.errors import ListenerFailed

if TYPE_CHECKING:
    from tunnel_server.adapters.tls.certificates import Certificates
    from tunnel_server.domain.metrics import HandshakeMetrics

# Probing the peer's host: one that vanished without a word is noticed within about 90 s.
KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 30, 15, 4


@dataclass(frozen=True, slots=True)
class TlsLimits:
    """Times in seconds; see docs/reference/settings.md."""

    handshake_timeout: float = 10.0
    max_handshakes: int = 2048
    backlog: int = 4096
    socket_buffer: int = 0  # octets; 0 for the system's choice


class TlsListener:
    """Listens while entered. Leaving closes the port and sends away who is not known yet; others stay.

    Raises:
        ListenerFailed: on entering, when the port cannot be had.
    """

    def __init__(
        self,
        certificates: Certificates,
        inner: Inner,
        metrics: HandshakeMetrics,
        limits: TlsLimits,
        address: tuple[str, int],
        ssh_names: frozenset[str],
        door: Door,
        challenge: Callable[[str], ssl.SSLContext | None] | None = None,
    ) -> None:
        self._address = address
        self._limits = limits
        self._door = door
        self._lobby = Lobby(limits.max_handshakes)
        self._gate = Gate(
            certificates,
            inner,
            self._lobby,
            Turns(),
            metrics.handshake,
            ssh_names=ssh_names,
            timeout=limits.handshake_timeout,
            challenge=challenge,
        )
        self._stack = AsyncExitStack()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port listened on, also where the system chose it."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        host, port = self._address
        await self._stack.enter_async_context(self._lobby)
        try:
            self._server = await loop.create_server(
                self._door(self._doorman, self._receive),
                host or None,
                port,
                backlog=self._limits.backlog,
                start_serving=False,
            )
            for sock in self._server.sockets:
                _set_options(sock, self._limits.socket_buffer)
            await self._server.start_serving()
        except OSError as error:
            await self._stack.aclose()
            raise ListenerFailed(f"cannot listen for TLS on port {port}: {error.strerror or error}") from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_accepting()
        await self._stack.aclose()

    def stop_accepting(self) -> None:
        """Close the port; connections stay."""
        if self._server is not None:
            self._server.close()

    def _doorman(self) -> Doorman:
        return Doorman(self._gate)

    def _receive(self, transport: asyncio.Transport, peer: Peer, received: bytes) -> None:
        doorman = Doorman(self._gate, peer)
        transport.set_protocol(doorman)
        doorman.connection_made(transport)
        if received:
            doorman.data_received(received)


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
