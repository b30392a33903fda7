"""Who gets a name: the registry's answer, and a probe where a name is contested."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunnel_server.domain.conflict import refusal
from tunnel_server.domain.errors import ChannelRefused, InvalidForwardRequest, LabelTaken, NameInUse, TooManyTunnels
from tunnel_server.domain.forward import ForwardRequest
from tunnel_server.domain.ports import Transport, TunnelDesk

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunnel_server.domain.registry import TunnelRegistry
    from tunnel_server.domain.tunnel import Client, Tunnel


class Desk(TunnelDesk):
    """Opens tunnels in the registry; a holder that no longer lives loses its name to who asks for it."""

    def __init__(
        self, registry: TunnelRegistry, max_tunnels: int, clock: Callable[[], float], has_https: bool = True
    ) -> None:
        self._registry = registry
        self._max_tunnels = max_tunnels
        self._clock = clock
        self._has_https = has_https

    async def open(self, request: str, client: Client, transport: Transport) -> Tunnel:
        wanted = ForwardRequest.parse(request)
        if wanted.https_only and not self._has_https:
            raise InvalidForwardRequest("https=only: this server has no HTTPS")
        while True:
            if transport.closed:
                raise ChannelRefused("the connection is gone")
            if len(self._registry.held_by(transport)) >= self._max_tunnels:
                raise TooManyTunnels(f"one connection may hold at most {self._max_tunnels} tunnels")
            try:
                return self._registry.open(wanted, client, transport, self._clock())
            except LabelTaken as taken:
                holder = taken.holder
            if holder.client.thumbprint != client.thumbprint and not holder.transport.closed:
                # Client ids can be ground out: another key takes no name over, not even from the silent.
                raise NameInUse(refusal(client, holder))
            alive = await holder.transport.probe()
            if self._registry.find(holder.label) is not holder:
                continue  # it gave the name up meanwhile
            if alive:
                raise NameInUse(refusal(client, holder))
            if not holder.transport.closed:
                holder.transport.close("another connection took over the name, since this one did not answer")
            self._registry.close(holder)  # in case its connection has not told yet

    def close(self, tunnel: Tunnel) -> None:
        self._registry.close(tunnel)

    def held_by(self, transport: Transport) -> list[Tunnel]:
        return self._registry.held_by(transport)
