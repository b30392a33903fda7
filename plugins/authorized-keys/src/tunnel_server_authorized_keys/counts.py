"""The metrics."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import Counter, Gauge
from prometheus_client.registry import Collector

from tunnel_server_authorized_keys.files import Look
from tunnel_server_authorized_keys.lines import Book

_PREFIX = "tunnel_server_authorized_keys"


class Counts:
    """What an operator watches."""

    def __init__(self) -> None:
        self._lines = Gauge(f"{_PREFIX}_lines", "Lines in force.", registry=None)
        self._refused = Gauge(f"{_PREFIX}_refused_lines", "Lines that are not in force.", registry=None)
        self._unreadable = Gauge(
            f"{_PREFIX}_unreadable", "Files in their last good state, since they cannot be read.", registry=None
        )
        self._reloads = Counter(f"{_PREFIX}_reloads", "Changes that were applied.", registry=None)
        self._failures = Counter(f"{_PREFIX}_reload_failures", "Looks that could not read everything.", registry=None)
        self._ended = Counter(f"{_PREFIX}_ended", "Live connections and tunnels ended.", ["what"], registry=None)
        for what in ("connection", "tunnel"):
            self._ended.labels(what)

    @property
    def collectors(self) -> Sequence[Collector]:
        """All of them, for ``register_metrics``."""
        return self._lines, self._refused, self._unreadable, self._reloads, self._failures, self._ended

    def looked(self, look: Look) -> None:
        """Note what a look could not read."""
        self._unreadable.set(len(look.failures))
        if look.failures:
            self._failures.inc()

    def loaded(self, book: Book, *, again: bool) -> None:
        """Note what is in force from now on."""
        self._lines.set(book.lines)
        self._refused.set(len(book.refused))
        if again:
            self._reloads.inc()

    def ended(self, what: str) -> None:
        """Note that a ``connection`` or a ``tunnel`` was ended."""
        self._ended.labels(what).inc()
