"""What the plugin counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

PREFIX = "tunnel_server_webhook_policy_"
KINDS = ("client", "tunnel", "request", "events")


class Metrics:
    """The plugin's own collectors."""

    def __init__(self) -> None:
        self._asks = Counter(
            PREFIX + "asks",
            "Questions by kind and outcome: answered, timeout, unreachable, status, malformed, unsigned, too_large, "
            "circuit_open, overloaded, not_asked",
            ["kind", "outcome"],
            registry=None,
        )
        self._seconds = Histogram(
            PREFIX + "ask_seconds",
            "How long the endpoint took",
            ["kind"],
            registry=None,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self._saved = Counter(
            PREFIX + "asks_saved",
            "Questions that were not sent: answered from the cache (cached), with another (shared)",
            ["kind", "how"],
            registry=None,
        )
        self._circuit = Gauge(PREFIX + "circuit_state", "0 closed, 1 half open, 2 open", ["kind"], registry=None)
        self._sent = Counter(PREFIX + "events_sent", "Events that the endpoint took", registry=None)
        self._dropped = Counter(
            PREFIX + "events_dropped",
            "Events given up: queue_full, too_old, rejected, stopped",
            ["reason"],
            registry=None,
        )
        self._waiting = Gauge(PREFIX + "events_waiting", "Events not taken yet", registry=None)
        for kind in KINDS:
            self._circuit.labels(kind).set(0)

    @property
    def collectors(self) -> list[Counter | Gauge | Histogram]:
        """All of them, for the server."""
        return [self._asks, self._seconds, self._saved, self._circuit, self._sent, self._dropped, self._waiting]

    def asked(self, kind: str, outcome: str, seconds: float | None = None) -> None:
        """Count a question; ``seconds`` if the endpoint was asked."""
        self._asks.labels(kind, outcome).inc()
        if seconds is not None:
            self._seconds.labels(kind).observe(seconds)

    def saved(self, kind: str, how: str) -> None:
        """Count a question that did not have to be sent."""
        self._saved.labels(kind, how).inc()

    def circuit(self, kind: str, state: int) -> None:
        """Note the state of a breaker."""
        self._circuit.labels(kind).set(state)

    def events_sent(self, number: int) -> None:
        """Count events that arrived."""
        self._sent.inc(number)

    def events_dropped(self, reason: str, number: int = 1) -> None:
        """Count events that never will."""
        self._dropped.labels(reason).inc(number)

    def events_waiting(self, number: int) -> None:
        """Note how many wait."""
        self._waiting.set(number)
