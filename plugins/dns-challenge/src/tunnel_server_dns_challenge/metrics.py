"""What the plugin counts."""

from __future__ import annotations

from prometheus_client import Counter

PREFIX = "tunnel_server_dns_challenge_"
OUTCOMES = ("answered", "refused", "not_understood", "shortened", "dropped", "failed")


class Metrics:
    """The plugin's own collector."""

    def __init__(self) -> None:
        self._queries = Counter(
            PREFIX + "queries", f"Queries, by transport: {', '.join(OUTCOMES)}", ["transport", "outcome"], registry=None
        )
        self._counters = {
            (transport, outcome): self._queries.labels(transport, outcome)
            for transport in ("udp", "tcp")
            for outcome in OUTCOMES
        }

    @property
    def collectors(self) -> list[Counter]:
        """All of them, for the server."""
        return [self._queries]

    def query(self, transport: str, outcome: str) -> None:
        """Count a message that came in."""
        self._counters[transport, outcome].inc()
