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
        self._by_label: dict[str, Tunnel] = {}
        self._by_transport: dict[Transport, dict[Tunnel, None]] = {}
        self._by_profile: dict[Thumbprint, dict[Tunnel, None]] = {}

    def __len__(self) -> int:
        return len(self._by_label)

    def open(self, request: ForwardRequest, client: Client, transport: Transport, now: float) -> Tunnel:
        """Publish ``request``; ``now`` is seconds since the epoch.

        Raises:
            InvalidTunnelName: the name is empty.
            DuplicateForward: ``transport`` holds the label already.
            LabelTaken: another connection holds it.
        """
        label = host_label(request.name, client.id)
        holder = self._by_label.get(label)
        if holder is not None:
            if holder.transport is transport:
                raise DuplicateForward(f"this connection already publishes {holder.request.text!r} on that name")
            raise LabelTaken(holder)
        tunnel = Tunnel(label, request, client, transport, now)
        self._by_label[label] = tunnel
        self._by_transport.setdefault(transport, {})[tunnel] = None
        self._by_profile.setdefault(client.thumbprint, {})[tunnel] = None
        self._events.tunnel_opened(tunnel)
        return tunnel

    def close(self, tunnel: Tunnel) -> None:
        """Drop ``tunnel``; dropping one that is gone, or was replaced, does nothing."""
        if self._by_label.get(tunnel.label) is not tunnel:
            return
        del self._by_label[tunnel.label]
        _drop(self._by_transport, tunnel.transport, tunnel)
        _drop(self._by_profile, tunnel.client.thumbprint, tunnel)
        self._events.tunnel_closed(tunnel)

    def find(self, label: str) -> Tunnel | None:
        """Return the tunnel that answers on ``label``."""
        return self._by_label.get(label)

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
