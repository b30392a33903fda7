"""Starts everything in order, and stops it in the reverse order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog

from tunnel_server.app.container import PASSED, Container
from tunnel_server.app.file_limit import fitting, raise_file_limit
from tunnel_server.app.keeping import passing
from tunnel_server.app.welcome import welcome
from tunnel_server.domain.errors import InvalidSocket, ListenerFailed, TunnelServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tunnel_server.adapters.metrics.listener import MetricsListener
    from tunnel_server.adapters.plugins.hooks import Hooks
    from tunnel_server.adapters.proxy.listener import HttpListener
    from tunnel_server.adapters.ssh.listener import SshListener
    from tunnel_server.adapters.tls.listener import TlsListener
    from tunnel_server.app.settings import Settings

LEAVE_WITHIN = 2.0  # seconds that what is left has after the stop
STOP_WITHIN = 30.0  # seconds that a stop may take beyond the grace period: clients leave, plugins end
SHUTDOWN_NOTICE = "the server is stopping; requests under way may finish"

log = structlog.get_logger()


def run(settings: Settings, plugins: Hooks) -> int:
    """Serve until told to stop by SIGTERM or SIGINT; a second one ends the process at once.

    Returns the exit status: 0 after an orderly stop.

    Raises:
        ListenerFailed: a port is taken or may not be used.
        InvalidSocket: a socket that systemd passed cannot be used.
        InvalidHostKey: there is no host key to be had.
        InvalidPlugin: a plugin does not start.
    """
    settings = fitting(settings, raise_file_limit())
    # Libraries that speak TLS to others would write their secrets there; ours goes by the setting tls_key_log.
    os.environ.pop("SSLKEYLOGFILE", None)
    return _runner()(_main(settings, plugins))


async def _main(settings: Settings, plugins: Hooks) -> int:
    container = Container(settings=settings, hooks=plugins)
    settings = _on_passed_sockets(container, settings)
    stop = asyncio.Event()
    with _signals(stop):
        await serve(container, settings, stop)
    await _end_what_is_left()
    return 0


async def _end_what_is_left() -> None:
    """Cancel tasks that plugins have left; leave without one that does not heed that: the loop would wait for ever."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        _, stubborn = await asyncio.wait(left, timeout=LEAVE_WITHIN)
        if stubborn:
            log.error(
                "server.left-behind",
                tasks=len(stubborn),
                names=", ".join(sorted(task.get_name() for task in stubborn))[:400],
            )
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)


async def serve(container: Container, settings: Settings, stop: asyncio.Event) -> None:
    """Serve what ``container`` builds until ``stop`` is set.

    Raises:
        ListenerFailed: a port could not be had; what had started is stopped again.
    """
    async with contextlib.AsyncExitStack() as stack:
        systemd = stack.enter_context(container.notifier())
        ports = await start(container, settings, stack)
        gc.freeze()  # what was built by now stays; the collector need not walk it again
        log.info("server.started", **ports.numbers)
        systemd.ready(", ".join(f"{name.removesuffix('_port')} {at}" for name, at in ports.numbers.items() if at))
        _tell_of_plugins(container.hooks())
        _warn_of_losses(settings)
        _greet(settings, ports.ssh.port)
        if settings.dev_tls:
            print(container.dev_certificate().how_to_trust, flush=True)
        await stop.wait()
        container.readiness().end()
        log.info("server.stopping", grace=settings.grace_period)
        systemd.stopping(settings.grace_period + STOP_WITHIN, SHUTDOWN_NOTICE)
        ports.ssh.stop_accepting()
        if ports.tls is not None:
            ports.tls.stop_accepting()
        ports.ssh.tell(SHUTDOWN_NOTICE)
    log.info("server.stopped")


@dataclass(frozen=True, slots=True)
class Ports:
    """What listens; ``tls`` only where there is a certificate, or a way to one."""

    metrics: MetricsListener
    ssh: SshListener
    http: HttpListener
    tls: TlsListener | None

    @property
    def numbers(self) -> dict[str, int | None]:
        """The number of each port, by what the log calls it; ``None`` if it is not served."""
        return {
            "http_port": self.http.port,
            "ssh_port": self.ssh.port,
            "tls_port": self.tls.port if self.tls else None,
            "metrics_port": self.metrics.port,
        }


async def start(container: Container, settings: Settings, stack: contextlib.AsyncExitStack) -> Ports:
    """Start everything that ``container`` builds, to be stopped in the reverse order by ``stack``.

    Raises:
        ListenerFailed: a port could not be had; what had started is left to ``stack``.
        InvalidCertificate: a certificate that is set cannot be used.
        InvalidPlugin: a plugin does not start, or wants what another has.
    """
    enter, events = stack.enter_async_context, container.events()
    events.add(container.metrics())
    events.add(container.relay())
    events.add(container.plugin_events())
    if settings.dev_tls:
        events.add(container.dev_tunnels())
    # Metrics first, and so last to go: a stop that hangs can be watched.
    metrics = await enter(container.metrics_listener())
    container.add_collectors()
    # Plugins before what they have a say in, and so after it on the way out.
    await enter(container.lives())
    await enter(container.plugin_events())
    await enter(container.control())
    # SSH before HTTP, and so after it on the way out: requests in flight need their tunnels.
    await enter(container.ssh_port())
    ssh = await enter(container.ssh())
    await enter(container.http_port())
    http = await enter(container.http())
    # TLS last: what comes there is given to the two before.
    tls = None
    if settings.has_certificate():
        await enter(container.certificates())
        if settings.tls_key_log:
            log.warning("tls.key-log", file=settings.tls_key_log, reason="who has this file reads all connections")
        if settings.acme:
            await enter(container.acme())
        _warn_of_names(container, settings)
        await enter(container.tls_port())
        tls = await enter(container.tls())
        if not settings.tls_port:  # the system chose one, which redirects have to name
            container.relay().https_at(tls.port)
    container.readiness().begin()
    return Ports(metrics, ssh, http, tls)


def _on_passed_sockets(container: Container, settings: Settings) -> Settings:
    """Return the settings with the ports of the sockets that systemd passed; ``container`` builds by them, too.

    Raises:
        InvalidSocket: one cannot be used, or nobody would ever take what comes there.
    """
    sockets = container.sockets()
    if "tls" in sockets and not settings.has_certificate():
        raise InvalidSocket(
            "a socket is passed as 'tls', and there is no certificate: set one, or stop and disable that socket unit"
        )
    ports: dict[str, Any] = {PASSED[name]: found[0].getsockname()[1] for name, found in sockets.items()}
    settings = replace(settings, **ports)
    container.settings.override(settings)
    return settings


def _tell_of_plugins(plugins: Hooks) -> None:
    """Say which policies are in force, and if nobody can log in by them."""
    log.info("plugins.loaded", names=", ".join(plugin.name for plugin in plugins.plugins))
    if not plugins.of("authenticate_client"):
        log.warning("plugins.nobody-may-log-in", reason="no plugin accepts clients; accept-any-key does")


def _warn_of_losses(settings: Settings) -> None:
    """Say what of the files that we keep would not outlive this container."""
    for what, path, lost_with, meaning in passing(settings):
        log.warning("storage.not-kept", what=what, path=str(path.absolute()), lost_with=lost_with, meaning=meaning)


def _warn_of_names(container: Container, settings: Settings) -> None:
    """Say for which of our hosts a visitor will be shown a certificate of others."""
    base = container.base().hostname
    if settings.acme or settings.dev_tls or "." not in base:
        return
    for host in (base, f"any.{base}"):
        if not container.certificates().covers(host):
            log.warning("certificate.does-not-cover", host=host.replace("any.", "*.", 1))


def _greet(settings: Settings, ssh_port: int) -> None:
    if sys.stdout.isatty():
        print(welcome(settings, ssh_port), flush=True)


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            log.warning("server.killed", signal=signal.Signals(number).name)
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _runner() -> Callable[[Coroutine[Any, Any, int]], int]:
    """Return uvloop's runner where there is one; nothing depends on it."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


__all__ = ["ListenerFailed", "TunnelServerError", "run", "serve"]
