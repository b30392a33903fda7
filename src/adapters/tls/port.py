"""A TCP port: what the three that take clients and visitors have in common."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from tunnel_server.adapters.tls.lobby import Lobby
from tunnel_server.adapters.tls.proxied import Networks, Peer, Proxied, take_over
from tunnel_server.domain.errors import ListenerFailed

# Probing the peer's host: one that vanished without a word is noticed within about 90 s.
KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 30, 15, 4


@dataclass(frozen=True, slots=True)
class PortOptions:
    """How a port listens.

    ``backlog`` connections may wait to be accepted; ``buffer`` octets are the kernel's for each, each way, 0 for the
    system's choice; with ``keepalive`` the kernel probes silent peers. ``proxies`` are the networks whose connections
    begin with a PROXY header, of which ``capacity`` may be awaited at once.
    """

    backlog: int
    buffer: int
    keepalive: bool
    proxies: Networks
    capacity: int


class Port:
    """Waits for PROXY headers while entered; listens from :meth:`open` to :meth:`close`.

    ``speaks`` is what a message calls it by. It listens on the sockets ``given``, or else on ``address``. Given ones
    are others', too: what is not accepted when the port closes waits there for whoever is next.
    """

    def __init__(
        self, speaks: str, address: tuple[str, int], options: PortOptions, given: Sequence[socket.socket] = ()
    ) -> None:
        self._speaks = speaks
        self._address = address
        self._options = options
        self._given = given
        self._lobby = Lobby(options.capacity)
        self._servers: list[asyncio.Server] = []

    async def __aenter__(self) -> Self:
        await self._lobby.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()
        await self._lobby.__aexit__()

    @property
    def number(self) -> int:
        """The port listened on, also where the system chose it; of several sockets the first one's."""
        return int(self._servers[0].sockets[0].getsockname()[1])

    async def open(self, protocol: Callable[[Peer], asyncio.BaseProtocol]) -> None:
        """Listen. ``protocol`` makes that of a connection, given the peer's address if a proxy told it.

        Raises:
            ListenerFailed: the port cannot be had.
        """
        host, number = self._address
        given: list[dict[str, Any]] = [{"sock": sock} for sock in self._given]
        try:
            for where in given or [{"host": host or None, "port": number}]:
                server = await asyncio.get_running_loop().create_server(
                    self._first(protocol), **where, backlog=self._options.backlog, start_serving=False
                )
                self._servers.append(server)
                for sock in server.sockets:
                    self._set_options(sock)
                await server.start_serving()
        except OSError as error:
            reason = error.strerror or error
            raise ListenerFailed(f"cannot listen for {self._speaks} on port {number}: {reason}") from None

    def close(self) -> None:
        """Take no more connections; those there are stay. Safe to repeat."""
        for server in self._servers:
            server.close()

    def _first(self, protocol: Callable[[Peer], asyncio.BaseProtocol]) -> Callable[[], asyncio.BaseProtocol]:
        proxies, lobby = self._options.proxies, self._lobby
        if not proxies:
            return lambda: protocol(None)

        def then(transport: asyncio.Transport, peer: Peer, received: bytes) -> None:
            take_over(transport, protocol(peer), received)

        return lambda: Proxied(proxies, lobby, then)

    def _set_options(self, sock: socket.socket) -> None:
        """Set a listening socket's options, which those accepted from it inherit: no call for each of them."""
        if self._options.keepalive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_KEEPIDLE"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
        if self._options.buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._options.buffer)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._options.buffer)
