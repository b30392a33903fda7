"""A client that is not there."""

from __future__ import annotations

from tunnel_server.domain.errors import ChannelRefused
from tunnel_server.domain.ports import Channel, ChannelReceiver, Transport, TunnelEvents
from tunnel_server.domain.tunnel import Tunnel


class FakeTransport(Transport):
    """Answers probes as it is told, and hands out no channels."""

    def __init__(self, alive: bool = True) -> None:
        self.alive = alive
        self.reason: str | None = None
        self.probes = 0

    @property
    def closed(self) -> bool:
        return self.reason is not None

    async def open_channel(self, request: str, receiver: ChannelReceiver) -> Channel:
        raise ChannelRefused("the fake has no channels")

    async def probe(self) -> bool:
        self.probes += 1
        return self.alive

    def close(self, reason: str) -> None:
        self.reason = reason


class FakeEvents(TunnelEvents):
    """Remembers which tunnels are open."""

    def __init__(self) -> None:
        self.open: list[Tunnel] = []

    def tunnel_opened(self, tunnel: Tunnel) -> None:
        self.open.append(tunnel)

    def tunnel_closed(self, tunnel: Tunnel) -> None:
        self.open.remove(tunnel)
