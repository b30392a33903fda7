"""The server's counts as Prometheus metrics."""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from tunnel_server.adapters.metrics.compatible import CompatibleMetrics
from tunnel_server.domain.metrics import Metrics, Outcome

if TYPE_CHECKING:
    from tunnel_server.domain.tunnel import Tunnel

LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Histogram:
    """Counts durations by bucket; one loop writes, so it needs none of the library's locks."""

    __slots__ = ("_counts", "_help", "_name", "_sum")

    def __init__(self, name: str, help_text: str) -> None:
        self._name = name
        self._help = help_text
        self._counts = [0] * (len(LATENCIES) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(LATENCIES, seconds)] += 1
        self._sum += seconds

    def family(self) -> HistogramMetricFamily:
        """Return what has been counted, cumulated as Prometheus wants it."""
        total, buckets = 0, []
        for bound, count in zip((*map(str, LATENCIES), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return HistogramMetricFamily(self._name, self._help, buckets=buckets, sum_value=self._sum)


class PrometheusMetrics(Metrics, Collector):
    """All metrics, in a registry of their own; what every request counts is plain Python until asked for."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._compatible = CompatibleMetrics()
        self._requests: Counts[tuple[int, Outcome]] = Counts()
        self._bytes_in = self._bytes_out = 0
        self._request_seconds = Histogram("tunnel_server_request_seconds", "Time from a request's head to its end.")
        self._first_byte = Histogram(
            "tunnel_server_first_byte_seconds", "Time from a request's head to the first byte of its answer."
        )
        self._channel_open = Histogram("tunnel_server_channel_open_seconds", "Time to open a channel to a service.")
        self._queue_wait = Histogram("tunnel_server_queue_wait_seconds", "Time that requests waited for their turn.")

        def gauge(name: str, help_text: str) -> Gauge:
            return Gauge(f"tunnel_server_{name}", help_text, registry=self._registry)

        self._connections = gauge("ssh_connections", "SSH connections that have logged in.")
        self._tunnels = gauge("tunnels", "Open tunnels.")
        self._visitors = gauge("visitors", "Visitors' connections.")
        self._channels = gauge("open_channels", "Open channels to services.")
        self._lean = gauge("ssh_lean_path", "1 while SSH packets may take the lean path, 0 if it is off.")
        self._rejected = Counter(
            "tunnel_server_rejected_forwards", "Forward requests refused.", ["code"], registry=self._registry
        )
        self._logins = Counter("tunnel_server_ssh_logins", "SSH logins.", ["outcome"], registry=self._registry)
        self._handshakes = Counter(
            "tunnel_server_tls_handshakes", "Connections to the TLS port.", ["outcome"], registry=self._registry
        )
        self._expiry = Gauge(
            "tunnel_server_certificate_expiry_timestamp_seconds",
            "When a certificate expires.",
            ["source"],
            registry=self._registry,
        )
        self._refused = Counter(
            "tunnel_server_certificates_refused",
            "New certificates that could not be used.",
            ["source"],
            registry=self._registry,
        )
        self._waiting_hosts = gauge("acme_waiting_hosts", "Hosts that wait for their first certificate.")
        self._orders = Counter(
            "tunnel_server_acme_orders", "Orders of certificates.", ["outcome"], registry=self._registry
        )
        self._plugin_failures = Counter(
            "tunnel_server_plugin_failures",
            "What plugins did wrong.",
            ["plugin", "hook", "kind"],
            registry=self._registry,
        )
        build = Gauge("tunnel_server_build_info", "Always 1.", ["version", "python"], registry=self._registry)
        build.labels(version=_own_version(), python=platform.python_version()).set(1)
        ProcessCollector(registry=self._registry)  # CPU, memory, open files, start: of Linux only
        self._registry.register(self)

    def client_connected(self, client_id: str) -> None:
        self._connections.inc()
        self._compatible.connected(client_id)

    def client_disconnected(self, client_id: str) -> None:
        self._connections.dec()
        self._compatible.disconnected(client_id)

    def login(self, outcome: str) -> None:
        self._logins.labels(outcome).inc()

    def packet_path(self, lean: bool) -> None:
        self._lean.set(lean)

    def tunnel_opened(self, tunnel: Tunnel) -> None:
        self._tunnels.inc()
        self._compatible.tunnel_opened(str(tunnel.client.id))

    def tunnel_closed(self, tunnel: Tunnel) -> None:
        self._tunnels.dec()
        self._compatible.tunnel_closed(str(tunnel.client.id))

    def forward_rejected(self, code: str) -> None:
        self._rejected.labels(code).inc()

    def visitor_connected(self) -> None:
        self._visitors.inc()

    def visitor_disconnected(self) -> None:
        self._visitors.dec()

    def request_finished(
        self,
        client_id: str | None,
        status: int,
        outcome: Outcome,
        seconds: float,
        first_byte: float | None,
        bytes_in: int,
        bytes_out: int,
    ) -> None:
        self._requests[status // 100, outcome] += 1
        self._request_seconds.observe(seconds)
        if first_byte is not None:
            self._first_byte.observe(first_byte)
        self._bytes_in += bytes_in
        self._bytes_out += bytes_out
        if client_id is not None:
            self._compatible.requested(client_id)

    def channel_opened(self, seconds: float) -> None:
        self._channels.inc()
        self._channel_open.observe(seconds)

    def channel_closed(self) -> None:
        self._channels.dec()

    def queue_waited(self, seconds: float) -> None:
        self._queue_wait.observe(seconds)

    def handshake(self, outcome: str) -> None:
        self._handshakes.labels(outcome).inc()

    def certificate_expires(self, source: str, not_after: float) -> None:
        self._expiry.labels(source).set(not_after)

    def certificate_gone(self, source: str) -> None:
        with suppress(KeyError):
            self._expiry.remove(source)

    def certificate_refused(self, source: str) -> None:
        self._refused.labels(source).inc()

    def acme_order(self, outcome: str) -> None:
        self._orders.labels(outcome).inc()

    def acme_waiting(self, hosts: int) -> None:
        self._waiting_hosts.set(hosts)

    def plugin_failed(self, plugin: str, hook: str, kind: str) -> None:
        self._plugin_failures.labels(plugin, hook, kind).inc()

    def add_collector(self, collector: Collector) -> None:
        """Show what a plugin counts, too.

        Raises:
            ValueError: one of its names is taken.
        """
        names = {family.name for family in collector.describe()} if hasattr(collector, "describe") else set()
        if taken := names & CompatibleMetrics.NAMES:
            raise ValueError(f"{', '.join(sorted(taken))}: the server has metrics of this name")
        self._registry.register(collector)

    def describe(self) -> list[Metric]:
        """Return the names that nobody else may have."""
        return list(self.collect())

    def collect(self) -> Iterator[Metric]:
        """Give what is counted here to the registry."""
        requests = CounterMetricFamily(
            "tunnel_server_requests",
            "Requests by class of their status and how they ended.",
            labels=["status_class", "outcome"],
        )
        for (hundreds, outcome), count in self._requests.items():
            requests.add_metric([f"{hundreds}xx" if hundreds else "none", str(outcome)], count)
        yield requests
        moved = CounterMetricFamily(
            "tunnel_server_bytes", "Bytes of requests (in) and of answers (out), heads included.", labels=["direction"]
        )
        moved.add_metric(["in"], self._bytes_in)
        moved.add_metric(["out"], self._bytes_out)
        yield moved
        for histogram in (self._request_seconds, self._first_byte, self._channel_open, self._queue_wait):
            yield histogram.family()

    def render(self) -> tuple[bytes, str]:
        """Return all metrics in Prometheus' text format, and its content type."""
        return self._compatible.render().encode() + generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4


def _own_version() -> str:
    try:
        return version("tunnel-server")
    except PackageNotFoundError:
        return "unknown"
