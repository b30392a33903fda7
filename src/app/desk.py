"""Who gets a name: the registry's answer, and a probe where a name is contested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunnel_server.domain.conflict import refusal
from tunnel_server.domain.errors import (
    ChannelRefused,
    InvalidForwardRequest,
    InvalidTunnelName,
    LabelTaken,
    NameInUse,
    TooManyTunnels,
)
from tunnel_server.domain.forward import ForwardRequest
from tunnel_server.domain.naming import checked_names, host_label
from tunnel_server.domain.ports import Transport, TunnelDesk

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunnel_server.domain.naming import BaseUrl
    from tunnel_server.domain.registry import TunnelRegistry
    from tunnel_server.domain.rules import TunnelPolicies
    from tunnel_server.domain.tunnel import Client, Tunnel


@dataclass(frozen=True, slots=True)
class DeskLimits:
    """What clients may have: so many tunnels a connection, and tunnels for HTTPS only if there is any."""

    max_tunnels: int
    has_https: bool = True


class Desk(TunnelDesk):
    """Opens tunnels in the registry; a holder that no longer lives loses its name to who asks for it."""

    def __init__(
        self,
        registry: TunnelRegistry,
        policies: TunnelPolicies,
        base: BaseUrl,
        limits: DeskLimits,
        clock: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._policies = policies
        self._base = base
        self._limits = limits
        self._clock = clock

    async def open(self, request: str, client: Client, transport: Transport) -> Tunnel:
        wanted = ForwardRequest.parse(request)
        if not wanted.name:
            raise InvalidTunnelName("a tunnel needs a name")
        self._check_room(transport)
        names = await self._names(wanted, client)
        shown = names or (host_label(wanted.name, client.id),)
        wanted = await self._policies.authorized(client, wanted, shown)
        if wanted.https_only and not self._limits.has_https:
            raise InvalidForwardRequest("https=only: this server has no HTTPS")
        while True:
            self._check_room(transport)  # once more: policies take time
            try:
                return self._registry.open(wanted, client, transport, self._clock(), names)
            except LabelTaken as taken:
                await self._contest(client, taken.holder)

    def _check_room(self, transport: Transport) -> None:
        if transport.closed:
            raise ChannelRefused("the connection is gone")
        if len(self._registry.held_by(transport)) >= self._limits.max_tunnels:
            raise TooManyTunnels(f"one connection may hold at most {self._limits.max_tunnels} tunnels")

    async def _names(self, request: ForwardRequest, client: Client) -> tuple[str, ...]:
        return checked_names(await self._policies.names(client, request), self._base)

    async def _contest(self, client: Client, holder: Tunnel) -> None:
        """Return if the name of ``holder`` is free now; raise if it stays."""
        if holder.client.thumbprint != client.thumbprint and not holder.transport.closed:
            # Client ids can be ground out: another key takes no name over, not even from the silent.
            raise NameInUse(refusal(client, holder))
        alive = await holder.transport.probe()
        if self._registry.find(holder.label) is not holder:
            return  # it gave the name up meanwhile
        if alive:
            raise NameInUse(refusal(client, holder))
        if not holder.transport.closed:
            holder.transport.close("another connection took over the name, since this one did not answer")
        self._registry.close(holder)  # in case its connection has not told yet

    async def url(self, name: str, client: Client) -> str:
        request = ForwardRequest(name, name.removeprefix("/"))
        usual = host_label(request.name, client.id)
        names = await self._names(request, client)
        return self._base.tunnel_url(names[0] if names else usual)

    def close(self, tunnel: Tunnel) -> None:
        self._registry.close(tunnel)

    def held_by(self, transport: Transport) -> list[Tunnel]:
        return self._registry.held_by(transport)
