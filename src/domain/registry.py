"""The live tunnels."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from tunnel_server.domain.errors import DuplicateForward, LabelTaken
from tunnel_server.domain.naming import host_label
from tunnel_server.domain.tunnel import Client, Tunnel

if TYPE_CHECKING:
    from tunnel_server.domain.forward import ForwardRequest
    from tunnel_server.domain.identity import Thumbprint
    from tunnel_server.domain.ports import Transport, TunnelEvents

_K = TypeVar("_K")


class TunnelRegistry:
    """Every live tunnel. Methods never await, so each change is atomic."""

    def __init__(self, events: TunnelEvents) -> None:
        self._events = events
        self._by_name: dict[str, Tunnel] = {}
        self._all: dict[Tunnel, None] = {}
        self.has_hosts = False  # whether any tunnel ever had a whole host name
        self._by_transport: dict[Transport, dict[Tunnel, None]] = {}
        self._by_profile: dict[Thumbprint, dict[Tunnel, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def open(
        self,
        request: ForwardRequest,
        client: Client,
        transport: Transport,
        now: float,
        names: tuple[str, ...] = (),
    ) -> Tunnel:
        """Publish ``request``; ``now`` is seconds since the epoch.

        ``names`` are those it gets, which :func:`~tunnel_server.domain.naming.checked_names` has seen; none for its
        usual label.

        Raises:
            InvalidTunnelName: the name is empty.
            DuplicateForward: ``transport`` holds a name already.
            LabelTaken: another connection holds one.
        """
        label, *others = names or (host_label(request.name, client.id),)
        for name in (label, *others):
            holder = self._by_name.get(name)
            if holder is not None and holder.transport is transport:
                raise DuplicateForward(f"this connection already publishes {holder.request.text!r} on that name")
            if holder is not None:
                raise LabelTaken(holder)
        tunnel = Tunnel(label, request, client, transport, now, tuple(others))
        for name in tunnel.names:
            self._by_name[name] = tunnel
            self.has_hosts = self.has_hosts or "." in name
        self._all[tunnel] = None
        self._by_transport.setdefault(transport, {})[tunnel] = None
        self._by_profile.setdefault(client.thumbprint, {})[tunnel] = None
        self._events.tunnel_opened(tunnel)
        return tunnel

    def close(self, tunnel: Tunnel) -> None:
        """Drop ``tunnel``; dropping one that is gone, or was replaced, does nothing."""
        if tunnel not in self._all:
            return
        del self._all[tunnel]
        for name in tunnel.names:
            del self._by_name[name]
        _drop(self._by_transport, tunnel.transport, tunnel)
        _drop(self._by_profile, tunnel.client.thumbprint, tunnel)
        self._events.tunnel_closed(tunnel)

    def find(self, name: str) -> Tunnel | None:
        """Return the tunnel that answers on a label or whole host name, as it was given or by a wildcard."""
        tunnel = self._by_name.get(name)
        if tunnel is None and "." in name:
            return self._by_name.get("*." + name.partition(".")[2])
        return tunnel

    def all(self) -> list[Tunnel]:
        """Return every live tunnel in the order they were opened."""
        return list(self._all)

    def held_by(self, transport: Transport) -> list[Tunnel]:
        """Return the tunnels of one connection in the order they were opened."""
        return list(self._by_transport.get(transport, ()))

    def of_profile(self, thumbprint: Thumbprint) -> list[Tunnel]:
        """Return the tunnels of one key, over all its connections."""
        return list(self._by_profile.get(thumbprint, ()))


def _drop(index: dict[_K, dict[Tunnel, None]], key: _K, tunnel: Tunnel) -> None:
    del index[key][tunnel]
    if not index[key]:
        del index[key]
