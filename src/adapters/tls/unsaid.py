"""Clients that negotiate nothing: what they say first inside TLS tells what they speak."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from tunnel_server.adapters.tls.proxied import take_over
from tunnel_server.domain.demux import SILENT_IS_SSH, Inside, unsaid

if TYPE_CHECKING:
    from tunnel_server.adapters.tls.lobby import Lobby
    from tunnel_server.adapters.tls.transport import TlsTransport


class Unsaid(asyncio.Protocol):
    """The first protocol inside TLS of such a client, and a guest in the lobby once more.

    ``protocol`` makes the one that takes over.
    """

    __slots__ = ("_address", "_buffer", "_lobby", "_protocol", "_server_name", "_ssh_names", "_transport", "deadline")

    def __init__(
        self,
        lobby: Lobby,
        address: str,
        server_name: str | None,
        ssh_names: frozenset[str],
        protocol: Callable[[Inside], asyncio.Protocol],
    ) -> None:
        self._lobby = lobby
        self._address = address
        self._server_name = server_name
        self._ssh_names = ssh_names
        self._protocol = protocol
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("TlsTransport", transport)
        self.deadline = asyncio.get_running_loop().time() + SILENT_IS_SSH
        self._lobby.arrived(self, self._address)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._settle(silent=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lobby.left(self)

    def overdue(self) -> None:
        self._settle(silent=True)

    def abort(self) -> None:
        self._lobby.left(self)
        self._transport.abort()

    def _settle(self, *, silent: bool) -> None:
        means = unsaid(self._buffer, silent, self._server_name, self._ssh_names)
        if means is Inside.UNSAID:
            return
        self._lobby.left(self)
        take_over(self._transport, self._protocol(means), self._buffer)
