"""What the plugin counts."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

PREFIX = "tunnel_server_custom_domains_"


class Metrics:
    """The plugin's own collectors."""

    def __init__(self) -> None:
        self._lookups = Counter(
            PREFIX + "lookups", "Looks for a TXT record: found, absent, failed, cached", ["outcome"], registry=None
        )
        self._seconds = Histogram(
            PREFIX + "lookup_seconds",
            "How long name servers took",
            registry=None,
            buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8),
        )
        self._names = Counter(
            PREFIX + "names",
            "Whole host names asked for: proved, not_proved, unknown, limited, not_publishable",
            ["outcome"],
            registry=None,
        )
        self._closed = Counter(PREFIX + "closed", "Tunnels closed because their proof is gone", registry=None)
        self._maps = Counter(PREFIX + "map_loads", "Loads of the map file: loaded, refused", ["outcome"], registry=None)

    @property
    def collectors(self) -> list[Counter | Histogram]:
        """All of them, for the server."""
        return [self._lookups, self._seconds, self._names, self._closed, self._maps]

    def lookup(self, outcome: str, seconds: float | None = None) -> None:
        """Count a look for a record; ``seconds`` if name servers were asked."""
        self._lookups.labels(outcome).inc()
        if seconds is not None:
            self._seconds.observe(seconds)

    def name(self, outcome: str) -> None:
        """Count a whole host name that was asked for."""
        self._names.labels(outcome).inc()

    def closed(self) -> None:
        """Count a tunnel that lost its name."""
        self._closed.inc()

    def map_load(self, outcome: str) -> None:
        """Count a look at a map file that had changed."""
        self._maps.labels(outcome).inc()
