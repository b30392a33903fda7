"""What all visitors share: routing, the pools, the sweep that enforces time limits, the stop."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from ipaddress import ip_address
from time import perf_counter
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary

import structlog

from tunnel_server.adapters.proxy import answers
from tunnel_server.adapters.proxy.pool import House, Pool
from tunnel_server.adapters.proxy.visitor import Phase
from tunnel_server.domain.arrival import HTTPS
from tunnel_server.domain.ports import TunnelEvents
from tunnel_server.domain.routing import Surface, ToControl, without_port
from tunnel_server.domain.share import Share, one_visitor
from tunnel_server.domain.tunnel import Access
from tunnel_server.domain.visit import FinishedRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunnel_server.adapters.proxy.head import RequestHead
    from tunnel_server.adapters.proxy.judgement import Judgement
    from tunnel_server.adapters.proxy.limits import Limits, Secure
    from tunnel_server.adapters.proxy.visitor import Visitor
    from tunnel_server.domain.arrival import Arrival
    from tunnel_server.domain.metrics import Metrics, Outcome
    from tunnel_server.domain.naming import BaseUrl
    from tunnel_server.domain.ports import Transport
    from tunnel_server.domain.registry import TunnelRegistry
    from tunnel_server.domain.routing import Router
    from tunnel_server.domain.rules import RequestRules
    from tunnel_server.domain.tunnel import Tunnel

SWEEP = 0.5  # seconds between looks at the time limits
MAX_TOLD = 2048  # characters of a path; many such records may wait for a plugin
MAX_METHOD = 32  # characters of a method, for the same reason
DRAIN_LOOK = 0.02  # seconds between looks at the requests in flight, during a stop
REMEMBERED = 10_000  # labels of closed tunnels, so that a page can say "gone" and not "unknown"; hosts

CHALLENGES = b"/.well-known/acme-challenge/"  # RFC 8555 §8.3
PROBES = (b"/healthz", b"/readyz")  # which are asked without TLS from nearby, whatever visitors have to do

_OWN_HOSTS = {Surface.ROOT: "", Surface.AUTH: "auth.", Surface.API: "api."}

# a tunnel's channels, the path to ask it for, and the path its cookies are confined to if it is served by path
Found = tuple[Pool, bytes, bytes]

log = structlog.get_logger()


class Connection(Protocol):
    """A visitor's connection. ``deadline`` is the loop time at which ``timed_out`` is called."""

    transport: asyncio.Transport
    phase: Phase
    deadline: float

    def __hash__(self) -> int:
        """Return what tells connections apart."""

    def timed_out(self, now: float) -> None:
        """The deadline passed."""

    def server_stops(self) -> bool:
        """Close if nothing is under way; true if something is, after which it closes by itself."""


class Reporter(Protocol):
    """One whose exchange ended. ``visitor`` is who asked, as :mod:`tunnel_server.domain.share` has it."""

    visitor: str
    judgement: Judgement | None

    @property
    def access_line(self) -> dict[str, str]:
        """Return the request's address, method, host and path, as far as they are known."""

    @property
    def tunnel(self) -> Tunnel | None:
        """Return the tunnel it was for."""


def _none_pending(path: str) -> bool:
    return False


class Relay(TunnelEvents):
    """Finds the tunnel of each request and keeps the channels of each tunnel.

    ``control`` gives a protocol that takes a connection over for the answers of one of the server's own hosts;
    ``challenged`` tells of a path whether it is that of a pending challenge by which a CA looks whether a host is
    ours, whatever the host.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(
        self,
        registry: TunnelRegistry,
        router: Router,
        base: BaseUrl,
        limits: Limits,
        metrics: Metrics,
        control: Callable[[Surface], asyncio.Protocol],
        secure: Secure,
        rules: RequestRules,
        challenged: Callable[[str], bool] = _none_pending,
        access_log: bool = False,
    ) -> None:
        self.limits = limits
        self.secure = secure
        self._challenged = challenged
        self._rules = rules
        self._listener = rules.listener()
        self._registry = registry
        self._router = router
        self._base = base
        self.host = base.authority.encode("ascii")  # for requests that name none
        self._metrics = metrics
        self.control = control
        self._access_log = access_log
        self._visitors: dict[Connection, str] = {}  # and their addresses
        self._dropped, self._next_drop_told = 0, 0.0
        self._per_address: Counter[str] = Counter()
        self._pools: dict[Tunnel, Pool] = {}
        self._client_shares: WeakKeyDictionary[Transport, Share] = WeakKeyDictionary()
        self._gone: dict[str, None] = {}
        self._labels: dict[bytes, str] = {}  # by the Host fields of tunnels, as they were sent
        self._tasks: set[asyncio.Task[None]] = set()
        self._house = House(limits, base.hostname.encode("ascii"), metrics, self._tasks)
        self.stopping = False

    # tunnels

    def tunnel_opened(self, tunnel: Tunnel) -> None:
        for name in tunnel.names:
            self._gone.pop(name, None)

    def tunnel_closed(self, tunnel: Tunnel) -> None:
        pool = self._pools.pop(tunnel, None)
        if pool is not None:
            pool.close()
        for name in tunnel.names:
            self._gone[name] = None
            if len(self._gone) > REMEMBERED:
                del self._gone[next(iter(self._gone))]

    # visitors

    def arrived(self, visitor: Connection, arrival: Arrival) -> bool:
        """Count a visitor in; false if the server is full and nobody has more than one connection."""
        peer = arrival.peer or visitor.transport.get_extra_info("peername")
        address = one_visitor(str(peer[0])) if isinstance(peer, tuple) else "unknown"
        if len(self._visitors) >= self.limits.max_visitors and not self._make_room():
            return False
        self._visitors[visitor] = address
        self._per_address[address] += 1
        self._metrics.visitor_connected()
        return True

    def _make_room(self) -> bool:
        busiest, count = self._per_address.most_common(1)[0]
        if count < 2:
            return False
        theirs = [visitor for visitor, address in self._visitors.items() if address == busiest]
        victim = next((visitor for visitor in theirs if visitor.phase is Phase.HEAD), theirs[0])
        self._dropped += 1
        if self.loop.time() >= self._next_drop_told:  # visitors decide how often that is: one line a second
            log.warning("visitor.dropped", reason="too many connections", address=busiest, so_far=self._dropped)
            self._next_drop_told = self.loop.time() + 1
        victim.transport.abort()
        self.left(victim)
        return True

    def left(self, visitor: Connection) -> None:
        """A connection is gone, or somebody else's now. Safe to repeat."""
        address = self._visitors.pop(visitor, None)
        if address is not None:
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]
            self._metrics.visitor_disconnected()

    def introduce(self, transport: asyncio.Transport, arrival: Arrival) -> tuple[bytes, bool]:
        """Return the peer's address, and whether it is a proxy whose word on the visitor counts."""
        peer = arrival.peer or transport.get_extra_info("peername")
        if not isinstance(peer, tuple):
            return b"unknown", False
        address = str(peer[0]).partition("%")[0].removeprefix("::ffff:")
        trusted = False
        if self.limits.trusted_proxies:
            ip = ip_address(address)
            trusted = any(ip in network for network in self.limits.trusted_proxies)
        return address.encode("ascii"), trusted

    # requests

    def misplaced(self, request: RequestHead, arrival: Arrival) -> answers.Problem | None:
        """Return what is wrong with asking for the request's host on a connection that came so; ``None`` if nothing."""
        if arrival.wants_tls:
            if not self.secure.redirect or not request.host:
                return answers.wants_tls()
            return answers.moved(f"https://{request.host.decode()}{_target(request.path)}", for_good=True)
        return None if arrival.serves(request.host) else answers.misdirected(request.host.decode())

    def find(self, request: RequestHead, scheme: bytes) -> Found | answers.Problem | Surface:
        """Return where ``request`` goes: to a tunnel, to an answer of our own, or to one of the server's own hosts.

        ``scheme`` is that of the visitor's connection, to this server or to a proxy in front that is trusted.
        """
        path, prefix = request.path, b""
        if path.startswith(CHALLENGES) and self._challenged(path.decode("ascii")):
            return Surface.ROOT
        label = self._labels.get(request.host) or self._whole_host(request.host)
        if label is None:
            route = self._router.route(request.host.decode("ascii"), path.decode("ascii"))
            if isinstance(route, ToControl):
                if self.secure.force and scheme != HTTPS and path not in PROBES:
                    return self._to_https(f"{_OWN_HOSTS[route.surface]}{self._base.hostname}", path)
                return route.surface
            label = route.label
            if route.prefix:
                path, prefix = route.path.encode("ascii"), route.prefix.encode("ascii") + b"/"
            elif "." in label:  # under the base host there is nothing so deep, whatever has that name elsewhere
                return answers.unknown_tunnel(f"{label}.{self._base.hostname}")
            else:
                self._remember(request.host, label)
        if self.secure.force and scheme != HTTPS:
            return self._to_https(self._base.tunnel_host(label), path)
        tunnel = self._registry.find(label)
        if tunnel is None:
            host = self._base.tunnel_host(label)
            return answers.gone_tunnel(host) if label in self._gone else answers.unknown_tunnel(host)
        if tunnel.request.https_only and scheme != HTTPS:
            return self._to_https(self._base.tunnel_host(label), path)
        if prefix and tunnel.request.access is Access.PRIVATE:  # by path all apps share one origin
            return answers.moved(self._base.tunnel_url(label).rstrip("/") + path.decode("ascii"))
        pool = self._pools.get(tunnel)
        if pool is None:
            pool = self._pools[tunnel] = self._new_pool(tunnel)
        return pool, path, prefix

    def _whole_host(self, host: bytes) -> str | None:
        """Return the name of a tunnel that has, or had, a whole host name, if ``host`` is it."""
        if not self._registry.has_hosts:
            return None
        name = without_port(host.decode("ascii")).lower().removesuffix(".")
        return name if "." in name and (name in self._gone or self._registry.find(name) is not None) else None

    def gone(self, tunnel: Tunnel) -> answers.Problem:
        """Return what a visitor of a tunnel that has just been closed is answered."""
        return answers.gone_tunnel(self._base.tunnel_host(tunnel.label))

    def https_at(self, port: int) -> None:
        """Send visitors to ``port`` for HTTPS, unless the base URL says where."""
        if self._base.scheme != "https":
            self.secure = replace(self.secure, authority=self._base.https_authority(port))

    def _to_https(self, host: str, path: bytes) -> answers.Problem:
        """Send a visitor to HTTPS at ``host``."""
        if not self.secure.authority:
            return answers.refused(403, "This tunnel is for HTTPS only, and this server has none.")
        port = self.secure.authority.removeprefix(self._base.hostname)
        return answers.moved(f"https://{host}{port}{_target(path)}", for_good=True)

    def _new_pool(self, tunnel: Tunnel) -> Pool:
        share = self._client_shares.get(tunnel.transport)
        if share is None:
            share = self._client_shares[tunnel.transport] = Share(self.limits.max_channels_per_client)
        return Pool(tunnel, self._rules.of(tunnel), self._house, share)

    def _remember(self, host: bytes, label: str) -> None:
        """Note that ``host`` is that of a tunnel whatever the path is, which saves the next request the routing."""
        if len(self._labels) >= REMEMBERED:
            self._labels.clear()
        self._labels[host] = label

    def hand_over(self, visitor: Visitor, surface: Surface, data: bytes) -> None:
        """Give a connection with what was read of it to the control plane, which ends it after one answer."""
        self.left(visitor)
        transport, control = visitor.transport, self.control(surface)
        transport.set_protocol(control)
        control.connection_made(transport)
        control.data_received(data)

    def finished(
        self,
        visitor: Reporter,
        client_id: str | None,
        status: int,
        outcome: Outcome,
        started: float,
        first_byte: float | None,
        bytes_in: int,
        bytes_out: int,
    ) -> None:
        """Count an exchange that ended, however it did."""
        seconds = perf_counter() - started
        self._metrics.request_finished(client_id, status, outcome, seconds, first_byte, bytes_in, bytes_out)
        if visitor.judgement is not None or self._listener is not None:
            self._tell(visitor, status, str(outcome), seconds, bytes_in, bytes_out)
        if self._access_log:
            log.info(
                "request",
                **visitor.access_line,
                status=status,
                outcome=str(outcome),
                seconds=round(seconds, 6),
                bytes_in=bytes_in,
                bytes_out=bytes_out,
                client_id=client_id,
            )

    def _tell(
        self, visitor: Reporter, status: int, outcome: str, seconds: float, bytes_in: int, bytes_out: int
    ) -> None:
        """Tell those who want to hear of a request's end."""
        judgement = visitor.judgement if visitor.judgement is not None and visitor.judgement.wants_end else None
        if judgement is None and self._listener is None:
            return
        line = visitor.access_line
        method, host, path = line.get("method", "")[:MAX_METHOD], line.get("host", ""), line.get("path", "")[:MAX_TOLD]
        ended = FinishedRequest(
            visitor.tunnel, visitor.visitor, method, host, path, status, outcome, seconds, bytes_in, bytes_out
        )
        if judgement is not None:
            judgement.tell(ended)
        if self._listener is not None:
            self._listener(ended)

    # time

    async def sweep(self) -> None:
        """Enforce the time limits, for as long as the server runs."""
        while True:
            await asyncio.sleep(SWEEP)
            now = self.loop.time()
            for visitor in [visitor for visitor in self._visitors if visitor.deadline < now]:
                try:
                    visitor.timed_out(now)
                except Exception:
                    log.exception("visitor.failed")
                    visitor.transport.abort()
            for pool in list(self._pools.values()):
                pool.reap(now)

    async def drain(self, grace: float) -> None:
        """Let requests in flight finish, for at most ``grace`` seconds; then cut what is left."""
        self.stopping = True
        give_up = self.loop.time() + grace
        while self.loop.time() < give_up and [v for v in list(self._visitors) if v.server_stops()]:
            await asyncio.sleep(DRAIN_LOOK)

    async def abort(self) -> None:
        """Cut every connection."""
        for visitor in list(self._visitors):
            visitor.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _target(path: bytes) -> str:
    """Return what to ask for at another address; ``*`` has none."""
    return path.decode("ascii") if path.startswith(b"/") else "/"
