"""Small pieces that join the others: who hears of tunnels, and whether the server takes requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunnel_server.domain.ports import TunnelEvents

if TYPE_CHECKING:
    from tunnel_server.domain.tunnel import Tunnel


class Fanout(TunnelEvents):
    """Tells several listeners, in the order they were added."""

    def __init__(self) -> None:
        self._listeners: list[TunnelEvents] = []

    def add(self, listener: TunnelEvents) -> None:
        """Tell ``listener`` from now on."""
        self._listeners.append(listener)

    def tunnel_opened(self, tunnel: Tunnel) -> None:
        for listener in self._listeners:
            listener.tunnel_opened(tunnel)

    def tunnel_closed(self, tunnel: Tunnel) -> None:
        for listener in self._listeners:
            listener.tunnel_closed(tunnel)


class Readiness:
    """Whether new requests are welcome: from the end of the start to the beginning of the stop."""

    def __init__(self) -> None:
        self._ready = False

    def is_ready(self) -> bool:
        """Return whether the server is up and not stopping."""
        return self._ready

    def begin(self) -> None:
        """The server is up."""
        self._ready = True

    def end(self) -> None:
        """The server stops."""
        self._ready = False
