"""What is counted, by limit and kind, never by client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import Counter, Gauge
from prometheus_client.core import CounterMetricFamily

from tunnel_server_quotas.keys import Keys
from tunnel_server_quotas.ledger import Ledger
from tunnel_server_quotas.limits import SCOPES

_PREFIX = "tunnel_server_quotas_"


class Metrics:
    """The collectors of one server, in :attr:`collectors`."""

    def __init__(self, keys: Keys, ledger: Ledger) -> None:
        self._refused = _counter("refused", "Requests and tunnels that were refused.", "limit", "kind")
        for limit in ("requests_per_second", "concurrent_requests"):
            for scope in SCOPES:
                self._refused.labels(limit, scope)
        self._refused.labels("bytes_per_day", "key")
        self._refused.labels("tunnels", "key")
        self._closed = _counter("closed_tunnels", "Tunnels that were closed because their key had too many.")
        self._failed = _counter("file_failures", "Times that a file could not be read or written.", "file")
        for file in ("exceptions", "state"):
            self._failed.labels(file)
        self.collectors: list[Any] = [self._refused, self._closed, self._failed, *_gauges(keys, ledger), Shared(keys)]

    def refused(self, limit: str, kind: str) -> None:
        """A request or tunnel was refused by ``limit`` of a ``kind``: visitor, tunnel or key."""
        self._refused.labels(limit, kind).inc()

    def closed(self) -> None:
        """A tunnel was closed."""
        self._closed.inc()

    def file_failed(self, file: str) -> None:
        """``exceptions`` could not be read, or ``state`` not written."""
        self._failed.labels(file).inc()


class Shared:
    """Reads how often a visitor or tunnel had to share a meter, which is counted where it happens."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Return the one counter, as ``prometheus_client`` asks for it."""
        text = "Requests whose visitor or tunnel had to share a meter, for want of room."
        yield CounterMetricFamily(_PREFIX + "shared", text, self._keys.room.shared)


def _gauges(keys: Keys, ledger: Ledger) -> list[Gauge]:
    return [
        _gauge("running_requests", "Requests that run now.", lambda: keys.running),
        _gauge("meters", "Visitors and tunnels that are remembered.", lambda: keys.room.taken),
        _gauge("keys", "Keys that are remembered.", lambda: len(keys)),
        _gauge("keys_of_the_day", "Keys whose bytes of today are known.", lambda: len(ledger)),
    ]


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(_PREFIX + name, text, labels, registry=None)


def _gauge(name: str, text: str, read: Callable[[], float]) -> Gauge:
    gauge = Gauge(_PREFIX + name, text, registry=None)
    gauge.set_function(read)
    return gauge
