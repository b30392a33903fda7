"""The three metrics of the reference server, in its very words, for the dashboards that read them.

Written here and not by prometheus_client, which would name the counter ``requests_total``.
"""

from __future__ import annotations

from collections import Counter

SERVICE = "preevy-tunnel-server"


class CompatibleMetrics:
    """Connections, tunnels and requests by client; a client that is gone leaves nothing behind."""

    NAMES = frozenset({"sshConnections", "tunnels", "requests"})  # which nobody else may show

    def __init__(self) -> None:
        self._connections: Counter[str] = Counter()
        self._tunnels: Counter[str] = Counter()
        self._requests: dict[str, int] = {}

    def connected(self, client_id: str) -> None:
        """A connection of ``client_id`` is there."""
        self._connections[client_id] += 1
        self._requests.setdefault(client_id, 0)

    def disconnected(self, client_id: str) -> None:
        """A connection is gone; with the last one go the client's series."""
        self._connections[client_id] -= 1
        if self._connections[client_id] <= 0:
            del self._connections[client_id]
            self._tunnels.pop(client_id, None)
            self._requests.pop(client_id, None)

    def tunnel_opened(self, client_id: str) -> None:
        """A tunnel is there."""
        self._tunnels[client_id] += 1

    def tunnel_closed(self, client_id: str) -> None:
        """A tunnel is gone."""
        if client_id in self._tunnels:
            self._tunnels[client_id] -= 1

    def requested(self, client_id: str) -> None:
        """A request to a tunnel of ``client_id`` ended."""
        if client_id in self._requests:
            self._requests[client_id] += 1

    def render(self) -> str:
        """Return the three in Prometheus' text format."""
        return (
            _metric("sshConnections", "gauge", "Open SSH connections", self._connections)
            + _metric("tunnels", "gauge", "Open tunnels", self._tunnels)
            + _metric("requests", "counter", "Requests to tunnels", self._requests)
        )


def _metric(name: str, kind: str, help_text: str, values: dict[str, int]) -> str:
    lines = [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
    # a client id is letters, digits, - and _ only, so nothing needs escaping
    lines += [f'{name}{{clientId="{client}",serviceName="{SERVICE}"}} {value}' for client, value in values.items()]
    return "\n".join(lines) + "\n"
