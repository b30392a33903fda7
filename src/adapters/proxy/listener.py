"""The HTTP port."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tunnel_server.adapters.proxy.visitor import Visitor
from tunnel_server.domain.arrival import PLAIN, Arrival

if TYPE_CHECKING:
    from tunnel_server.adapters.proxy.relay import Relay
    from tunnel_server.adapters.tls.port import Port


class HttpListener:
    """Listens while entered; leaving lets requests in flight finish for ``grace`` seconds.

    Raises:
        ListenerFailed: on entering, when the port cannot be had.
    """

    def __init__(self, relay: Relay, port: Port, grace: float) -> None:
        self._relay = relay
        self._port = port
        self._grace = grace
        self._sweep: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port listened on, also where the system chose it."""
        return self._port.number

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        relay = self._relay
        relay.loop = loop
        await self._port.open(self._visitor)
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

    def _visitor(self, peer: tuple[str, int] | None) -> Visitor:
        return Visitor(self._relay, PLAIN if peer is None else Arrival(peer=peer))

    def stop_accepting(self) -> None:
        """Close the port; connections stay."""
        self._port.close()
