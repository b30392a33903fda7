"""Clients, tunnels and requests made by hand, clocks that are set, and a server that does what it is told."""

from __future__ import annotations

import hashlib
from collections.abc import Coroutine
from typing import Any, cast

from tunnel_server_quotas import Quotas
from tunnel_server_quotas.settings import SETTINGS

from tunnel_server import (
    Abstain,
    BaseUrl,
    Client,
    ClientId,
    FinishedRequest,
    ForwardRequest,
    Refuse,
    Request,
    RequestPolicy,
    Server,
    Thumbprint,
    Tunnel,
)

NOON = 1_700_000_000 // 86_400 * 86_400 + 43_200.0  # of a day in UTC


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakeServer(Server):
    """Has the tunnels that are put into it; keeps what is spawned, and runs none of it."""

    def __init__(self) -> None:
        self.live: list[Tunnel] = []
        self.closed: list[tuple[str, str]] = []
        self.spawned: list[Coroutine[Any, Any, None]] = []

    @property
    def base(self) -> BaseUrl:
        raise NotImplementedError

    def clients(self) -> list[Client]:
        return list(dict.fromkeys(tunnel.client for tunnel in self.live))

    def tunnels(self) -> list[Tunnel]:
        return list(self.live)

    def find(self, name: str) -> Tunnel | None:
        return next((tunnel for tunnel in self.live if name in tunnel.names), None)

    def of_profile(self, thumbprint: str) -> list[Tunnel]:
        return [tunnel for tunnel in self.live if str(tunnel.client.thumbprint) == thumbprint]

    def disconnect(self, client: Client, reason: str) -> None:
        self.live = [tunnel for tunnel in self.live if tunnel.client is not client]

    def close(self, tunnel: Tunnel, reason: str) -> None:
        if tunnel in self.live:
            self.live.remove(tunnel)
            self.closed.append((tunnel.label, reason))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.spawned.append(work)
        work.close()


class Bench:
    """A plugin at work by hand: its clocks, its server, and what it answers."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.wall = Clock(NOON)
        self.server = FakeServer()
        self.plugin = Quotas(self.clock, self.wall)
        self.plugin.configure(values(**settings))

    async def start(self) -> Bench:
        await self.plugin.startup(self.server)
        return self

    def ask(self, client: Client, *names: str) -> str | None:
        """Ask for a tunnel; return why there is none."""
        answer = self.plugin.authorize_tunnel(client, ForwardRequest(f"/{names[0]}", names[0]), names)
        return None if answer is None else answer.reason

    def open(self, client: Client, *names: str) -> Tunnel:
        """The server opens a tunnel, without a word to the plugin."""
        opened = tunnel(client, *names, at=self.clock.now)
        self.server.live.append(opened)
        return opened

    def policy(self, of: Tunnel) -> RequestPolicy:
        policy = self.plugin.guard_tunnel(of)
        assert policy is not None
        return policy

    def counted(self, name: str, **labels: str) -> float:
        """Return what a metric says."""
        for collector in self.plugin.register_metrics():
            for family in collector.collect():
                for sample in family.samples:
                    if sample.name == f"tunnel_server_quotas_{name}" and sample.labels == labels:
                        return cast("float", sample.value)
        raise AssertionError(f"there is no {name} {labels}")


def values(**settings: Any) -> dict[str, Any]:
    """Return the values of all settings, the defaults where nothing else is said."""
    return {setting.name: setting.default for setting in SETTINGS} | settings


def client(name: str = "alice") -> Client:
    """Return the owner of a key that is always the same for a name."""
    point = hashlib.sha256(name.encode()).digest()
    key = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + point
    return Client(ClientId.from_public_key(key), Thumbprint.from_public_key(key), "env", "127.0.0.1", key)


def tunnel(owner: Client, *names: str, at: float = 0.0) -> Tunnel:
    label, *others = names or ("web",)
    return Tunnel(label, ForwardRequest(f"/{label}", label), owner, cast("Any", None), at, tuple(others))


def request(visitor: str = "203.0.113.7") -> Request:
    return Request("GET", "/", "web.test", "http", visitor, [])


def finished(octets: int = 0, outcome: str = "answered") -> FinishedRequest:
    return FinishedRequest(None, "203.0.113.7", "GET", "web.test", "/", 200, outcome, 0.1, octets // 2, -(-octets // 2))


def passes(policy: RequestPolicy, visitor: str = "203.0.113.7") -> Abstain:
    """Ask a policy that is to let the request pass."""
    answer = policy(request(visitor))
    assert isinstance(answer, Abstain), answer
    return answer


def end(allowed: Abstain, octets: int = 0, outcome: str = "answered") -> None:
    """The request ends."""
    assert allowed.finished is not None
    allowed.finished(finished(octets, outcome))


def refused(policy: RequestPolicy, visitor: str = "203.0.113.7") -> tuple[int, str]:
    """Ask a policy that is to refuse; return its status and Retry-After."""
    answer = policy(request(visitor))
    assert isinstance(answer, Refuse), answer
    return answer.status, dict(answer.headers)["Retry-After"]
