"""Builds every object and starts nothing; :mod:`tunnel_server.app.serve` starts and stops them."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dependency_injector import containers, providers

from tunnel_server.adapters.acme.acme import Acme
from tunnel_server.adapters.acme.options import AcmeOptions
from tunnel_server.adapters.control.plane import ControlPlane
from tunnel_server.adapters.metrics.listener import MetricsListener
from tunnel_server.adapters.metrics.prometheus import PrometheusMetrics
from tunnel_server.adapters.plugins import registered
from tunnel_server.adapters.plugins.calls import Calls
from tunnel_server.adapters.plugins.certificates import may_order
from tunnel_server.adapters.plugins.clients import PluginClientPolicies
from tunnel_server.adapters.plugins.events import Events
from tunnel_server.adapters.plugins.hooks import Hooks
from tunnel_server.adapters.plugins.requests import PluginRequestRules
from tunnel_server.adapters.plugins.server import Lives
from tunnel_server.adapters.plugins.tunnels import PluginTunnelPolicies
from tunnel_server.adapters.plugins.watch import Watch
from tunnel_server.adapters.plugins.words import PluginCommands
from tunnel_server.adapters.proxy.limits import Limits, Secure
from tunnel_server.adapters.proxy.listener import HttpListener
from tunnel_server.adapters.proxy.relay import Relay
from tunnel_server.adapters.ssh.listener import SshLimits, SshListener
from tunnel_server.adapters.systemd.notify import Notifier
from tunnel_server.adapters.systemd.sockets import Passed, passed
from tunnel_server.adapters.tls.challenge import ChallengeContexts
from tunnel_server.adapters.tls.doorman import Inner
from tunnel_server.adapters.tls.listener import TlsLimits, TlsListener
from tunnel_server.adapters.tls.port import Port, PortOptions
from tunnel_server.adapters.tls.proxied import Networks, Peer
from tunnel_server.app.desk import Desk, DeskLimits
from tunnel_server.app.events import Fanout, Readiness
from tunnel_server.app.plugins import house
from tunnel_server.app.settings import Settings
from tunnel_server.app.welcome import ssh_line
from tunnel_server.domain.arrival import Arrival
from tunnel_server.domain.issuance import IssuanceLimits
from tunnel_server.domain.naming import BaseUrl
from tunnel_server.domain.ports import TunnelEvents
from tunnel_server.domain.registry import TunnelRegistry
from tunnel_server.domain.routing import Router

if TYPE_CHECKING:
    from tunnel_server.adapters.tls.certificates import Certificates
    from tunnel_server.adapters.tls.devca import DevTls
    from tunnel_server.adapters.tls.pairs import Sources

# The sockets that systemd may pass, by name, and the settings whose place they take.
PASSED = {"http": "port", "ssh": "ssh_port", "tls": "tls_port", "metrics": "metrics_port"}


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
        trusted_proxies=settings.trusted_proxies,
    )


def _ssh_port(settings: Settings, sockets: Passed) -> Port:
    options = PortOptions(
        backlog=settings.listen_backlog,
        buffer=settings.ssh_socket_buffer,
        keepalive=False,  # the connection asks for signs of life by itself
        proxies=settings.ssh_proxy_protocol,
        capacity=settings.max_handshakes,
    )
    return Port("SSH", _address(settings.listen_host, settings.ssh_port), options, sockets.get("ssh", ()))


def _http_port(settings: Settings, sockets: Passed) -> Port:
    options = _of_visitors(settings, settings.http_proxy_protocol)
    return Port("HTTP", _address(settings.listen_host, settings.port), options, sockets.get("http", ()))


def _tls_port(settings: Settings, sockets: Passed) -> Port:
    options = _of_visitors(settings, settings.tls_proxy_protocol)
    return Port("TLS", _address(settings.listen_host, settings.tls_port), options, sockets.get("tls", ()))


def _of_visitors(settings: Settings, proxies: Networks) -> PortOptions:
    return PortOptions(
        backlog=settings.listen_backlog,
        buffer=settings.visitor_socket_buffer,
        keepalive=True,
        proxies=proxies,
        capacity=settings.max_handshakes,
    )


def _address(host: str, port: int) -> tuple[str, int]:
    return host, port


def _host_key(path: str, encoded: str | None) -> tuple[Path, str | None]:
    return Path(path), encoded


ALPN = ("http/1.1", "ssh")
_CA_FOLDER = re.compile(r"[^A-Za-z0-9.-]+")  # of a directory's URL: what a CA for tests signed is not for another


class _Inner(Inner):
    """Takes over what came to the TLS port, as what came to the other two is taken."""

    def __init__(self, ssh: SshListener, http: HttpListener) -> None:
        self._ssh = ssh
        self._http = http

    def ssh(self, peer: Peer, *, raw: bool) -> asyncio.Protocol:
        return cast(asyncio.Protocol, self._ssh.protocol(peer, raw=raw))

    def visitor(self, arrival: Arrival) -> asyncio.Protocol:
        return self._http.protocol(arrival)

    def http2(self, arrival: Arrival) -> asyncio.Protocol:
        return self._http.http2(arrival)


def _has_https(settings: Settings, base: BaseUrl) -> bool:
    return base.scheme == "https" or settings.has_certificate()


def _secure(settings: Settings, base: BaseUrl) -> Secure:
    port = base.effective_port if base.scheme == "https" else settings.tls_port
    return Secure(
        force=settings.force_https,
        authority=base.https_authority(port) if _has_https(settings, base) else "",
        redirect=settings.tls_redirect,
        hsts=f"Strict-Transport-Security: {settings.hsts}\r\n".encode() if settings.hsts else b"",
    )


def _tls_limits(settings: Settings) -> TlsLimits:
    return TlsLimits(
        handshake_timeout=settings.tls_handshake_timeout,
        max_handshakes=settings.max_handshakes,
    )


def _dev_certificate(settings: Settings, base: BaseUrl) -> DevTls:
    from tunnel_server.adapters.tls.devca import ensure_dev_certificate

    return ensure_dev_certificate(Path(settings.dev_tls_folder), base.hostname)


def certificate_sources(settings: Settings) -> Sources:
    """Return where certificates come from, but for one for development."""
    from tunnel_server.adapters.tls.pairs import Sources  # only a server with TLS pays for it

    cert, key = settings.certificate_files() or (None, None)
    return Sources(
        cert_file=cert,
        key_file=key,
        cert_text=settings.tls_cert or None,
        key_text=settings.tls_key or None,
        directory=Path(settings.tls_cert_dir) if settings.tls_cert_dir else None,
    )


def _certificates(settings: Settings, base: BaseUrl, metrics: PrometheusMetrics) -> Certificates:
    from tunnel_server.adapters.tls.certificates import Certificates

    sources = certificate_sources(settings)
    if settings.dev_tls:
        made = _dev_certificate(settings, base)
        sources = replace(sources, cert_file=made.certificate, key_file=made.key)
    return Certificates(
        sources,
        metrics,
        key_log=Path(settings.tls_key_log) if settings.tls_key_log else None,
        alpn=("h2", *ALPN) if settings.http2 else ALPN,
    )


def _acme(
    settings: Settings,
    base: BaseUrl,
    certificates: Certificates,
    registry: TunnelRegistry,
    metrics: PrometheusMetrics,
    plugins: tuple[Hooks, Calls],
) -> Acme:
    hooks, calls = plugins
    options = AcmeOptions(
        directory_url=settings.acme,
        folder=Path(settings.acme_folder) / _CA_FOLDER.sub("_", settings.acme.removeprefix("https://")),
        email=settings.acme_email or None,
        hosts=settings.acme_hosts,
        on_demand=settings.acme_on_demand,
        on_demand_base=None if settings.acme_labels else base.hostname,
        challenges=settings.acme_challenges,
        ca_file=Path(settings.acme_ca_file) if settings.acme_ca_file else None,
        eab_kid=settings.acme_eab_kid or None,
        eab_key=settings.acme_eab_key or None,
        private_ca=settings.acme_private_ca,
        limits=IssuanceLimits(
            per_hour=settings.acme_orders_per_hour,
            per_day=settings.acme_orders_per_day,
            parent_per_day=settings.acme_orders_per_domain,
        ),
    )
    suffix = f".{base.hostname}"

    def exists(host: str) -> bool:
        return registry.find(host.removesuffix(suffix) if host.endswith(suffix) else host) is not None

    acme = Acme(
        options,
        certificates,
        exists,
        metrics,
        dns=registered.dns_challenge(hooks),
        may_order=may_order(hooks.of("prove_domain"), calls, suffix),
    )
    if settings.acme_on_demand:
        certificates.unknown = acme.wanted
    return acme


def _desk_limits(settings: Settings, base: BaseUrl) -> DeskLimits:
    return DeskLimits(settings.max_tunnels_per_connection, _has_https(settings, base))


def _together(*parts: Any) -> tuple[Any, ...]:
    return parts


def _of(hooks: Hooks, hook: str) -> Any:
    return hooks.of(hook)


def _challenge_answer(settings: Settings, acme: Callable[[], Acme]) -> Callable[[str], bytes | None]:
    """Return what answers a CA that looks at a path; nothing without one."""
    return (lambda path: acme().http_answer(path)) if settings.acme else (lambda path: None)


def _challenged(settings: Settings, acme: Callable[[], Acme]) -> Callable[[str], bool]:
    """Return what tells of a request's path whether a CA is looked for there."""
    answer = _challenge_answer(settings, acme)
    return lambda path: answer(path.partition("?")[0]) is not None


def _challenge_context(settings: Settings, acme: Callable[[], Acme]) -> ChallengeContexts | None:
    return ChallengeContexts(acme().alpn_certificate) if settings.acme else None


def _dev_tunnels(settings: Settings, base: BaseUrl, certificates: Certificates) -> TunnelEvents:
    from tunnel_server.adapters.tls.devtunnels import DevTunnels

    return DevTunnels(certificates, Path(settings.dev_tls_folder), base.hostname)


def _ssh_names(settings: Settings, base: BaseUrl) -> frozenset[str]:
    return frozenset(settings.ssh_hostnames or [base.hostname])


class Container(containers.DeclarativeContainer):
    """The one place that picks adapters."""

    settings = providers.Dependency(instance_of=Settings)

    base = providers.Singleton(BaseUrl.parse, settings.provided.base_url)
    metrics = providers.Singleton(PrometheusMetrics)
    readiness = providers.Singleton(Readiness)
    events = providers.Singleton(Fanout)
    registry = providers.Singleton(TunnelRegistry, events)

    hooks = providers.Singleton(house)
    watch = providers.Singleton(Watch, metrics)
    calls = providers.Singleton(Calls, metrics, watch, settings.provided.hook_timeout)
    plugin_events = providers.Singleton(Events, calls, hooks)
    client_policies = providers.Singleton(
        PluginClientPolicies, calls, providers.Callable(_of, hooks, "authenticate_client")
    )
    tunnel_policies = providers.Singleton(
        PluginTunnelPolicies,
        calls,
        providers.Callable(_of, hooks, "name_tunnel"),
        providers.Callable(_of, hooks, "authorize_tunnel"),
    )
    request_rules = providers.Singleton(PluginRequestRules, calls, hooks, plugin_events)
    commands = providers.Singleton(PluginCommands, calls, providers.Callable(registered.commands, hooks))

    desk = providers.Singleton(
        Desk,
        registry,
        tunnel_policies,
        base,
        providers.Callable(_desk_limits, settings, base),
        providers.Object(time.time),
    )
    router = providers.Singleton(Router, base)
    dev_certificate = providers.Singleton(_dev_certificate, settings, base)
    certificates = providers.Singleton(_certificates, settings, base, metrics)
    dev_tunnels = providers.Singleton(_dev_tunnels, settings, base, certificates)
    acme = providers.Singleton(
        _acme, settings, base, certificates, registry, metrics, providers.Callable(_together, hooks, calls)
    )
    control = providers.Singleton(
        ControlPlane,
        base=base,
        ready=readiness.provided.is_ready,
        ssh_hint=providers.Callable(ssh_line, base, settings.provided.ssh_port),
        hsts=settings.provided.hsts,
        challenge_answer=providers.Callable(_challenge_answer, settings, acme.provider),
        routes=providers.Callable(registered.routes, hooks, calls),
    )
    relay = providers.Singleton(
        Relay,
        registry=registry,
        router=router,
        base=base,
        limits=providers.Callable(_relay_limits, settings),
        metrics=metrics,
        control=control.provided.protocol,
        secure=providers.Callable(_secure, settings, base),
        rules=request_rules,
        challenged=providers.Callable(_challenged, settings, acme.provider),
        access_log=settings.provided.access_log,
    )
    notifier = providers.Singleton(Notifier, os.environ)
    sockets = providers.Singleton(passed, os.environ, PASSED)
    ssh_port = providers.Singleton(_ssh_port, settings, sockets)
    http_port = providers.Singleton(_http_port, settings, sockets)
    tls_port = providers.Singleton(_tls_port, settings, sockets)
    ssh = providers.Singleton(
        SshListener,
        desk=desk,
        policies=providers.Callable(_together, client_policies, commands),
        metrics=metrics,
        base=base,
        limits=providers.Callable(_ssh_limits, settings),
        port=ssh_port,
        host_key=providers.Callable(_host_key, settings.provided.ssh_host_key_path, settings.provided.ssh_host_key),
    )
    lives = providers.Singleton(Lives, hooks, calls, watch, base, registry, ssh)
    http = providers.Singleton(
        HttpListener,
        relay=relay,
        port=http_port,
        grace=settings.provided.grace_period,
    )
    inner = providers.Singleton(_Inner, ssh, http)
    tls = providers.Singleton(
        TlsListener,
        certificates=certificates,
        inner=inner,
        metrics=metrics,
        limits=providers.Callable(_tls_limits, settings),
        port=tls_port,
        ssh_names=providers.Callable(_ssh_names, settings, base),
        challenge=providers.Callable(_challenge_context, settings, acme.provider),
    )
    add_collectors = providers.Callable(registered.add_collectors, hooks, calls, metrics.provided.add_collector)
    metrics_listener = providers.Singleton(
        MetricsListener,
        metrics=metrics,
        address=providers.Callable(_address, settings.provided.metrics_host, settings.provided.metrics_port),
        given=sockets.provided.get.call("metrics", ()),
    )
