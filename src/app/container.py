"""Builds every object and starts nothing; :mod:`tunnel_server.app.serve` starts and stops them."""

from __future__ import annotations

import time
from pathlib import Path

from dependency_injector import containers, providers

from tunnel_server.adapters.control.plane import ControlPlane
from tunnel_server.adapters.metrics.listener import MetricsListener
from tunnel_server.adapters.metrics.prometheus import PrometheusMetrics
from tunnel_server.adapters.proxy.limits import Limits
from tunnel_server.adapters.proxy.listener import HttpListener
from tunnel_server.adapters.proxy.relay import Relay
from tunnel_server.adapters.ssh.listener import SshLimits, SshListener
from tunnel_server.app.desk import Desk
from tunnel_server.app.events import Fanout, Readiness
from tunnel_server.app.settings import Settings
from tunnel_server.app.welcome import ssh_line
from tunnel_server.domain.naming import BaseUrl
from tunnel_server.domain.registry import TunnelRegistry
from tunnel_server.domain.routing import Router


def _ssh_limits(settings: Settings) -> SshLimits:
    return SshLimits(
        login_timeout=settings.login_timeout,
        keepalive_interval=settings.keepalive_interval,
        keepalive_count_max=settings.keepalive_count_max,
        probe_timeout=settings.probe_timeout,
        channel_open_timeout=settings.channel_open_timeout,
        max_unauthenticated=settings.max_unauthenticated,
        max_sessions=settings.max_sessions_per_connection,
        ciphers=tuple(cipher.encode() for cipher in settings.ssh_ciphers),
        lean=settings.lean_ssh,
        channel_memory=settings.channel_memory,
        backlog=settings.listen_backlog,
        socket_buffer=settings.ssh_socket_buffer,
    )


def _relay_limits(settings: Settings) -> Limits:
    return Limits(
        head_size=settings.head_size,
        header_count=settings.header_count,
        head_timeout=settings.head_timeout,
        keepalive_timeout=settings.keepalive_timeout,
        body_timeout=settings.body_timeout,
        response_timeout=settings.response_timeout,
        idle_timeout=settings.idle_timeout,
        max_channels=settings.max_channels,
        max_channels_per_client=settings.max_channels_per_client,
        queue_length=settings.queue_length,
        queue_timeout=settings.queue_timeout,
        pool_idle_timeout=settings.pool_idle_timeout,
        max_visitors=settings.max_visitors,
        backlog=settings.listen_backlog,
        socket_buffer=settings.visitor_socket_buffer,
        trusted_proxies=settings.trusted_proxies,
    )


def _address(host: str, port: int) -> tuple[str, int]:
    return host, port


def _host_key(path: str, encoded: str | None) -> tuple[Path, str | None]:
    return Path(path), encoded


class Container(containers.DeclarativeContainer):
    """The one place that picks adapters."""

    settings = providers.Dependency(instance_of=Settings)

    base = providers.Singleton(BaseUrl.parse, settings.provided.base_url)
    metrics = providers.Singleton(PrometheusMetrics)
    readiness = providers.Singleton(Readiness)
    events = providers.Singleton(Fanout)
    registry = providers.Singleton(TunnelRegistry, events)
    desk = providers.Singleton(
        Desk, registry, settings.provided.max_tunnels_per_connection, providers.Object(time.time)
    )
    router = providers.Singleton(Router, base)
    control = providers.Singleton(
        ControlPlane,
        base=base,
        ready=readiness.provided.is_ready,
        ssh_hint=providers.Callable(ssh_line, base, settings.provided.ssh_port),
    )
    relay = providers.Singleton(
        Relay,
        registry=registry,
        router=router,
        base=base,
        limits=providers.Callable(_relay_limits, settings),
        metrics=metrics,
        control=control.provided.protocol,
        access_log=settings.provided.access_log,
    )
    ssh = providers.Singleton(
        SshListener,
        desk=desk,
        metrics=metrics,
        base=base,
        limits=providers.Callable(_ssh_limits, settings),
        address=providers.Callable(_address, settings.provided.listen_host, settings.provided.ssh_port),
        host_key=providers.Callable(_host_key, settings.provided.ssh_host_key_path, settings.provided.ssh_host_key),
    )
    http = providers.Singleton(
        HttpListener,
        relay=relay,
        address=providers.Callable(_address, settings.provided.listen_host, settings.provided.port),
        grace=settings.provided.grace_period,
    )
    metrics_listener = providers.Singleton(
        MetricsListener,
        metrics=metrics,
        address=providers.Callable(_address, settings.provided.metrics_host, settings.provided.metrics_port),
    )
