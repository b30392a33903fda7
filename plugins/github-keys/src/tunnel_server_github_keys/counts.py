"""The metrics."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import Counter, Gauge
from prometheus_client.registry import Collector

_PREFIX = "tunnel_server_github_keys"
_OUTCOMES = ("new", "same", "missing", "failed", "limited")


class Counts:
    """What an operator watches."""

    def __init__(self, sources: Sequence[str] = ("github", "gitlab")) -> None:
        self._keys = Gauge(f"{_PREFIX}_keys", "Keys that may log in.", registry=None)
        self._users = Gauge(f"{_PREFIX}_users", "Users who have such a key.", registry=None)
        self._complete = Gauge(
            f"{_PREFIX}_last_complete_timestamp_seconds", "When all was last confirmed.", registry=None
        )
        self._rounds = Counter(f"{_PREFIX}_rounds", "Times that everything was asked for.", ["outcome"], registry=None)
        self._requests = Counter(
            f"{_PREFIX}_requests", "Questions to the servers.", ["source", "outcome"], registry=None
        )
        self._ended = Counter(f"{_PREFIX}_ended", "Live connections ended.", registry=None)
        for source in sources:
            for outcome in _OUTCOMES:
                self._requests.labels(source, outcome)

    @property
    def collectors(self) -> Sequence[Collector]:
        """All of them, for ``register_metrics``."""
        return self._keys, self._users, self._complete, self._rounds, self._requests, self._ended

    def asked(self, source: str, outcome: str) -> None:
        """Note a question and what became of it."""
        self._requests.labels(source, outcome).inc()

    def round_over(self, now: float, *, complete: bool) -> None:
        """Note the end of a round; ``now`` is in seconds since the epoch."""
        self._rounds.labels("complete" if complete else "incomplete").inc()
        if complete:
            self._complete.set(now)

    def known(self, keys: int, users: int) -> None:
        """Note how many may log in from now on."""
        self._keys.set(keys)
        self._users.set(users)

    def ended(self) -> None:
        """Note that a live connection was ended."""
        self._ended.inc()
