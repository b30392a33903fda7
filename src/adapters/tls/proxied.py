"""Ports behind a load balancer that tells who its visitors are (PROXY protocol, versions 1 and 2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING, cast

import structlog

from tunnel_server.domain import proxy_protocol
from tunnel_server.domain.errors import InvalidProxyHeader
from tunnel_server.domain.share import one_visitor

if TYPE_CHECKING:
    from tunnel_server.adapters.tls.lobby import Lobby

HEADER_WITHIN = 5.0  # seconds; a load balancer sends it at once

Networks = tuple[IPv4Network | IPv6Network, ...]
Peer = tuple[str, int] | None
Then = Callable[[asyncio.Transport, Peer, bytes], None]

log = structlog.get_logger()


class Proxied(asyncio.Protocol):
    """The first protocol of a connection to a port that listens behind ``proxies``.

    A peer in one of these networks has to begin with a PROXY header, and nobody else may: the protocol forbids to
    guess. ``then`` gets the transport, the visitor's address if it was told, and what was received behind the header.
    """

    __slots__ = ("_buffer", "_lobby", "_proxies", "_then", "_transport", "deadline")

    def __init__(self, proxies: Networks, lobby: Lobby, then: Then) -> None:
        self._proxies = proxies
        self._lobby = lobby
        self._then = then
        self._buffer = b""
        self.deadline = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        address = peer_address(self._transport)
        if not _is_one_of(address, self._proxies):
            self._then(self._transport, None, b"")
            return
        self.deadline = asyncio.get_running_loop().time() + HEADER_WITHIN
        self._lobby.arrived(self, one_visitor(address))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            told = proxy_protocol.read(self._buffer)
        except InvalidProxyHeader as error:
            log.warning("proxy-header.invalid", address=peer_address(self._transport), reason=str(error))
            self.abort()
            return
        if told is not None:
            self._lobby.left(self)
            self._then(self._transport, told.source, self._buffer[told.size :])

    def connection_lost(self, exc: Exception | None) -> None:
        self._lobby.left(self)

    def overdue(self) -> None:
        log.warning("proxy-header.missing", address=peer_address(self._transport))
        self.abort()

    def abort(self) -> None:
        self._lobby.left(self)
        self._transport.abort()


def take_over(transport: asyncio.Transport, protocol: asyncio.BaseProtocol, received: bytes) -> None:
    """Give ``transport`` to ``protocol``, one that takes bytes, with what was ``received`` already."""
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if received:
        cast(asyncio.Protocol, protocol).data_received(received)


def peer_address(transport: asyncio.BaseTransport) -> str:
    """Return the address at the other end of the socket; a v4 address mapped into v6 as v4."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]).partition("%")[0].removeprefix("::ffff:") if isinstance(peer, tuple) else "unknown"


def _is_one_of(address: str, networks: Networks) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)
