"""Plugins in a running server: what they are asked, how answers combine, and that their failures are their own."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
import struct
import time
from collections.abc import Callable
from math import inf, nan
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import structlog
from aiohttp import web
from prometheus_client import Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from rig import LIMIT, Rig, Service, answering, plain, until, with_plugins

from tunnel_server import (
    Abstain,
    Accept,
    Access,
    Allow,
    Challenge,
    Client,
    Command,
    CommandFailed,
    FinishedRequest,
    ForwardRequest,
    Headers,
    Invocation,
    Login,
    Refuse,
    Reject,
    Request,
    Route,
    Server,
    Tunnel,
    hookimpl,
)
from tunnel_server.domain.errors import InvalidPlugin

MakeRig = Callable[..., Any]
REFUSED = {"/no": Refuse(403, "no")}


class Judge:
    """Answers what it is told, for clients, tunnels and requests."""

    def __init__(self) -> None:
        self.client: Any = None
        self.names: Any = None
        self.tunnel: Any = None
        self.request: Any = None
        self.asked: list[Any] = []

    @hookimpl
    def authenticate_client(self, client: Client, certificate: object) -> Any:
        self.asked.append((client, certificate))
        return self.client(client) if callable(self.client) else self.client

    @hookimpl
    def name_tunnel(self, client: Client, request: ForwardRequest) -> Any:
        return self.names(request) if callable(self.names) else self.names

    @hookimpl
    def authorize_tunnel(self, client: Client, request: ForwardRequest, names: tuple[str, ...]) -> Any:
        self.asked.append(names)
        return self.tunnel(request) if callable(self.tunnel) else self.tunnel

    @hookimpl
    def authorize_request(self, request: Request) -> Any:
        return self.request(request) if callable(self.request) else self.request


def judged() -> tuple[Judge, Any]:
    judge = Judge()
    return judge, with_plugins(judge=judge)


async def slowly(answer: object, seconds: float = 0.2) -> object:
    await asyncio.sleep(seconds)
    return answer


async def forward(client: asyncssh.SSHClientConnection) -> None:
    await client.forward_remote_path_to_port("/web", "127.0.0.1", 1)


async def refusal(rig: Rig, request: str = "/web") -> str:
    """Ask for a forward that is refused; return what the session says."""
    async with rig.client() as client, client.create_process() as session:
        with pytest.raises(asyncssh.ChannelListenError):
            await client.forward_remote_path_to_port(request, "127.0.0.1", 1)
        async with asyncio.timeout(LIMIT):
            while "refused" not in (line := str(await session.stderr.readline())):
                continue
        return line


# clients


async def test_a_client_that_is_rejected_is_told_why_and_may_try_its_next_key(make_rig: MakeRig) -> None:
    judge, hooks = judged()
    good, bad = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    judge.client = lambda client: None if client.public_key == good.public_data else Reject("not this one, please")
    said: list[str] = []

    class Ear(asyncssh.SSHClient):
        def auth_banner_received(self, msg: str, lang: str) -> None:
            said.append(msg)

    async with make_rig(plugins=hooks) as rig:
        async with asyncssh.connect(
            "127.0.0.1",
            rig.ssh.port,
            username="env",
            client_keys=[bad, good],
            known_hosts=None,
            config=None,
            agent_path=None,
            client_factory=Ear,
        ) as client:
            assert (await client.run("hello")).exit_status == 0

        assert said == ["not this one, please\r\n"]
        assert 'ssh_logins_total{outcome="rejected"} 1.0' in rig.counted


NO_ANSWERS: list[Any] = [17, "yes", Accept({"a": 1}), Reject(3), Accept({}, 10**400), Accept({}, nan), Accept(3)]  # type: ignore[dict-item,arg-type]


@pytest.mark.parametrize("answer", NO_ANSWERS, ids=range(len(NO_ANSWERS)))
async def test_nonsense_about_a_client_rejects_it(make_rig: MakeRig, answer: object) -> None:
    judge, hooks = judged()
    judge.client = lambda client: answer
    async with make_rig(plugins=hooks) as rig:
        with pytest.raises(asyncssh.PermissionDenied):
            async with rig.client():
                pass

        assert 'kind="nonsense",plugin="judge"' in rig.counted


async def test_a_policy_that_hangs_rejects_the_client_and_keeps_no_other_waiting(make_rig: MakeRig) -> None:
    judge, hooks = judged()
    judge.client = lambda client: slowly(None, 3600) if client.user == "slow" else None
    async with make_rig(plugins=hooks, hook_timeout=0.5) as rig, Service(answering(plain(b"app"))) as service:
        async with rig.tunnel(service.port) as host:
            with pytest.raises(asyncssh.PermissionDenied):
                async with rig.client(username="slow"):
                    pass
            assert (await rig.get(host)).body == b"app"

        assert 'kind="timeout",plugin="judge"' in rig.counted


async def test_nothing_is_served_before_a_slow_policy_has_settled_who_asks(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, hooks = judged()
    settled: list[float] = []

    async def policy(answer: object) -> object:
        await asyncio.sleep(1)
        settled.append(time.monotonic())
        return answer

    judge.client = lambda client: policy(Reject("no") if client.user == "bad" else None)
    sign = asyncssh.SSHClientConnection.send_userauth_request
    early: list[asyncio.Task[Any]] = []

    async def sign_and_go_on(self: Any, *args: Any, key: Any = None, trivial: bool = True) -> None:
        await sign(self, *args, key=key, trivial=trivial)
        if key is not None:
            self._auth_complete = True  # or asyncssh would hold these back until the server's word
            early.append(asyncio.create_task(asking(self)))
            await asyncio.sleep(0)
            self._auth_complete = False

    async def asking(connection: Any) -> float:
        await connection._make_global_request(b"streamlocal-forward@openssh.com", asyncssh.packet.String(b"/web"))
        return time.monotonic()

    monkeypatch.setattr(asyncssh.SSHClientConnection, "send_userauth_request", sign_and_go_on)
    async with make_rig(plugins=hooks) as rig, asyncio.timeout(LIMIT):
        async with rig.client():
            assert await early[0] >= settled[0]
            assert len(rig.registry) == 1
        await until(lambda: not len(rig.registry))
        with pytest.raises((asyncssh.Error, OSError)):
            async with rig.client(username="bad"):
                pass
        assert len(settled) == 2
        assert not len(rig.registry)
    await asyncio.gather(*early, return_exceptions=True)


async def test_a_client_leaves_when_what_let_it_in_expires(make_rig: MakeRig) -> None:
    judge, hooks = judged()
    judge.client = lambda client: Accept({"judge.team": "red"}, time.time() + 1)
    async with make_rig(plugins=hooks) as rig, rig.client() as client:
        assert rig.ssh.clients()[0].attributes == {"judge.team": "red"}

        async with asyncio.timeout(LIMIT):
            await client.wait_closed()


@pytest.mark.parametrize("moment", [0.0, -inf])
async def test_what_has_expired_lets_nobody_in(make_rig: MakeRig, moment: float) -> None:
    judge, hooks = judged()
    judge.client = Accept({}, moment)
    async with make_rig(plugins=hooks) as rig:
        with pytest.raises(asyncssh.PermissionDenied):
            async with rig.client():
                pass


async def test_a_client_with_a_certificate_is_its_key_and_policies_see_the_certificate(make_rig: MakeRig) -> None:
    judge, hooks = judged()
    authority, key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    certificate = authority.generate_user_certificate(key, "laptop", principals=["web", "api"], serial=7)
    stale = authority.generate_user_certificate(key, "old", valid_before=1)
    async with make_rig(plugins=hooks) as rig:
        async with rig.client(key=(key, certificate)) as client:  # type: ignore[arg-type]
            first = json.loads((await client.run("hello")).stdout)["clientId"]
        async with rig.client(key=(key, stale)) as client:  # type: ignore[arg-type]
            second = json.loads((await client.run("hello")).stdout)["clientId"]

        (asked, shown), (_, without) = judge.asked
        assert (shown.key_id, shown.serial, shown.principals) == ("laptop", 7, ("web", "api"))
        assert shown.authority == authority.public_data
        assert asked.public_key == key.public_data
        assert (without, first) == (None, second)  # what has expired says nothing; the key is a key


# tunnels


async def test_a_plugin_names_a_tunnel_and_the_client_is_told(make_rig: MakeRig) -> None:
    judge, hooks = judged()
    judge.names = lambda request: (request.name, "App.Example.com", "*.preview.example.com")
    async with make_rig(plugins=hooks) as rig, Service(answering(plain(b"app"))) as service:
        async with rig.client() as client:
            await client.forward_remote_path_to_port("/shop", "127.0.0.1", service.port)
            told = json.loads(str((await client.run("tunnel-url shop")).stdout))
            for host in ("shop.tunnels.test", "app.example.com", "APP.example.com:8080", "x.preview.example.com"):
                assert (await rig.get(host)).body == b"app", host

            assert told == {"shop": "http://shop.tunnels.test:3000/"}
            assert judge.asked[-1] == ("shop", "app.example.com", "*.preview.example.com")
            assert (await rig.get("preview.example.com")).body != b"app"
            assert (await rig.get("app.example.com.tunnels.test")).status == 502
        await until(lambda: not len(rig.registry))
        assert (await rig.get("app.example.com")).status == 502


@pytest.mark.parametrize(
    "name",
    ["auth", "API", "a.tunnels.test", "tunnels.test", "*.test", "com", "a b", "x" * 64, "", "-a", "1.2.3.4", "a..b"],
)
async def test_a_name_that_is_not_to_be_had_refuses_the_forward(make_rig: MakeRig, name: str) -> None:
    judge, hooks = judged()
    judge.names = name if name != "com" else "*.com"
    async with make_rig(plugins=hooks) as rig:
        assert "refused" in await refusal(rig)
        assert not len(rig.registry)


async def test_a_name_held_by_another_key_is_refused_and_the_holder_keeps_it(make_rig: MakeRig) -> None:
    judge, hooks = judged()
    judge.names = "shop"
    async with make_rig(plugins=hooks) as rig, Service(answering(plain(b"first"))) as service:
        async with rig.client() as client:
            await client.forward_remote_path_to_port("/a", "127.0.0.1", service.port)
            assert "in use by somebody else" in await refusal(rig, "/b")

            assert (await rig.get("shop.tunnels.test")).body == b"first"


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_tunnel_that_is_rejected_says_why(make_rig: MakeRig, asynchronous: bool) -> None:
    judge, hooks = judged()
    judge.tunnel = lambda request: slowly(Reject("not\n today")) if asynchronous else Reject("not\n today")
    async with make_rig(plugins=hooks) as rig:
        assert "not\\n today" in await refusal(rig)


async def test_a_policy_may_change_what_a_tunnel_is_but_not_what_it_is_called(make_rig: MakeRig) -> None:
    judge, hooks = judged()
    judge.tunnel = lambda request: dataclasses.replace(request, access=Access.PRIVATE)
    async with make_rig(plugins=hooks) as rig, Service(answering(plain(b"app"))) as service:
        async with rig.tunnel(service.port) as host:
            assert (await rig.get(host)).status == 307

        judge.tunnel = lambda request: dataclasses.replace(request, text="/other")
        assert "could not decide" in await refusal(rig)


async def test_a_client_that_dies_while_a_policy_thinks_leaves_no_tunnel(make_rig: MakeRig) -> None:
    judge, hooks = judged()
    thinking = asyncio.Event()

    async def think() -> None:
        thinking.set()
        await asyncio.sleep(0.5)

    judge.tunnel = lambda request: think()
    async with make_rig(plugins=hooks) as rig:
        async with rig.client() as client:
            asking = asyncio.create_task(forward(client))
            async with asyncio.timeout(LIMIT):
                await thinking.wait()
            client.abort()
            await asyncio.gather(asking, return_exceptions=True)
        async with rig.client():  # somebody else, meanwhile
            await asyncio.sleep(0.6)

        assert not len(rig.registry)


# requests


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("answer", "status", "field", "value"),
    [
        (None, 200, "x", None),
        (Allow(), 200, "x", None),
        (Refuse(429, "slow down", (("Retry-After", "7"),)), 429, "retry-after", "7"),
        (Challenge('Basic realm="here"'), 401, "www-authenticate", 'Basic realm="here"'),
        (Login("https://login.test/", ("a=b; Path=/",)), 307, "set-cookie", "a=b; Path=/"),
        (Refuse(499, "gone"), 499, "x", None),
        (Refuse(200, "x"), 503, "x", None),
        (Refuse(403, "\ud800"), 503, "x", None),
        (Challenge("Basic", "\ud800"), 503, "x", None),
        (Allow(frozenset({"Host"})), 503, "x", None),
        (Allow(frozenset({"☃", 7})), 503, "x", None),  # type: ignore[arg-type]
        (Refuse(400, "x", (("A\r\nB", "c"),)), 503, "x", None),
        (Refuse(400, "x", (("Content-Length", "0"),)), 503, "x", None),
        (Login("javascript:alert(1)"), 503, "location", None),
        (Login("https://a/\r\nX: y"), 503, "location", None),
        (True, 503, "x", None),
    ],
)
async def test_a_request_is_answered_as_its_policy_says(
    make_rig: MakeRig, asynchronous: bool, answer: object, status: int, field: str, value: str | None
) -> None:
    judge, hooks = judged()
    judge.request = lambda request: slowly(answer, 0.01) if asynchronous else answer
    async with make_rig(plugins=hooks) as rig, Service(answering(plain(b"app"))) as service:
        async with rig.tunnel(service.port) as host:
            answered = await rig.get(host)

            assert (answered.status, answered.field(field)) == (status, value)
            assert service.connections == (1 if status == 200 else 0)


async def test_a_policy_that_hangs_refuses_and_its_visitor_alone_waits(make_rig: MakeRig) -> None:
    judge, hooks = judged()
    judge.request = lambda request: slowly(None, 3600) if request.path == "/slow" else None
    async with make_rig(plugins=hooks, hook_timeout=0.5) as rig, Service(answering(plain(b"app"))) as service:
        async with rig.tunnel(service.port) as host:
            slow = asyncio.create_task(rig.get(host, "/slow"))
            assert (await rig.get(host)).body == b"app"
            assert not slow.done()
            assert (await slow).status == 503


async def test_a_tunnel_that_closes_while_a_policy_thinks_is_not_served(make_rig: MakeRig) -> None:
    judge, hooks = judged()
    thinking, go = asyncio.Event(), asyncio.Event()

    async def think() -> None:
        thinking.set()
        await go.wait()

    judge.request = lambda request: think()
    async with make_rig(plugins=hooks) as rig, Service(answering(plain(b"secret"))) as service:
        async with rig.tunnel(service.port) as host:
            asking = asyncio.create_task(rig.get(host))
            async with asyncio.timeout(LIMIT):
                await thinking.wait()
            rig.ssh.close_tunnel(rig.registry.all()[0], "revoked")
            go.set()

            assert (await asking).status == 502
        assert service.connections == 0


async def test_policies_under_way_hold_up_no_stop(make_rig: MakeRig) -> None:
    judge, hooks = judged()
    thinking = asyncio.Event()

    async def think() -> None:
        thinking.set()
        await asyncio.sleep(3600)

    judge.request = lambda request: think()
    async with make_rig(plugins=hooks, grace_period=0.2) as rig, Service(answering(plain(b"x"))) as service:
        async with rig.tunnel(service.port) as host:
            visit = await rig.connect()
            await visit.send("GET", "/", f"Host: {host}")
            async with asyncio.timeout(LIMIT):
                await thinking.wait()
            began = time.monotonic()
    assert time.monotonic() - began < 5


async def test_a_bad_request_behind_a_good_one_is_answered_and_its_end_told_of_nobody(make_rig: MakeRig) -> None:
    ended: list[FinishedRequest] = []

    class Counts:
        @hookimpl
        def authorize_request(self) -> Abstain:
            return Abstain(finished=ended.append)

    async with make_rig(plugins=with_plugins(counts=Counts)) as rig, Service(answering(plain(b"x"))) as service:
        async with rig.tunnel(service.port) as host:
            visit = await rig.connect()
            await visit.send("GET", "/", f"Host: {host}")
            assert (await visit.answer()).status == 200
            await visit.raw(b"BAD\r\n\r\n")

            assert (await visit.answer()).status == 400
        assert len(ended) == 1


async def test_an_upgrade_passes_policies_and_transformations(make_rig: MakeRig) -> None:
    class Marks:
        @hookimpl
        def transform_request_headers(self, headers: Headers) -> None:
            headers.set("X-In", "1")

        @hookimpl
        def transform_response_headers(self, status: int, headers: Headers) -> None:
            headers.set("X-Out", str(status))

    heads: list[bytes] = []

    async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        writer.write(await reader.readexactly(3))

    async with make_rig(plugins=with_plugins(marks=Marks)) as rig, Service(upgrade) as service:
        async with rig.tunnel(service.port) as host:
            visit = await rig.connect()
            await visit.send("GET", "/", f"Host: {host}", "Connection: Upgrade", "Upgrade: tcp")
            status, fields = await visit.head()
            await visit.raw(b"abc")
            async with asyncio.timeout(LIMIT):
                echoed = await visit.reader.readexactly(3)

    assert (status, dict(fields)["X-Out"], echoed) == (101, "101", b"abc")
    assert b"\r\nX-In: 1\r\n" in heads[0]


async def test_pipelined_requests_wait_for_a_slow_policy_in_order(make_rig: MakeRig) -> None:
    judge, hooks = judged()
    judge.request = lambda request: slowly(None, 0.05) if "slow" in request.path else None

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(
                dict(line.split(": ") for line in head.decode().lower().split("\r\n")[1:-2]).get("content-length", 0)
            )
            writer.write(plain(head.split()[1] + await reader.readexactly(length)))

    async with make_rig(plugins=hooks) as rig, Service(echo) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        await visit.raw(
            b"POST /slow1 HTTP/1.1\r\nHost: %b\r\nContent-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\nHost: %b\r\n\r\n"
            b"GET /slow3 HTTP/1.1\r\nHost: %b\r\n\r\n" % ((host.encode(),) * 3)
        )
        assert [(await visit.answer()).body for _ in range(3)] == [b"/slow1abc", b"/2", b"/slow3"]


async def test_the_end_of_a_request_is_told_once_however_it_ends(make_rig: MakeRig) -> None:
    ended: list[FinishedRequest] = []
    begun: list[str] = []

    class Counts:
        @hookimpl
        def guard_tunnel(self, tunnel: Tunnel) -> Any:
            def policy(request: Request) -> Allow:
                begun.append(request.path)
                return Allow(finished=ended.append)

            return policy

    judge = Judge()
    judge.request = lambda request: slowly(None, 3600) if request.path == "/slow" else REFUSED.get(request.path)

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc" if b"/half" in head else plain(b"x"))

    async with make_rig(plugins=with_plugins(counts=Counts, judge=judge)) as rig, Service(half) as service:
        async with rig.tunnel(service.port) as host:
            await rig.get(host, "/yes")
            await rig.get(host, "/no")
            for path in ("/half", "/slow"):
                visit = await rig.connect()
                await visit.send("GET", path, f"Host: {host}")
                await until(lambda path=path: path in begun)  # type: ignore[misc]
                sock = visit.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, no half-close
                visit.writer.transport.abort()

            await until(lambda: len(ended) == len(begun))
        assert {request.path: request.outcome for request in ended} == {
            "/yes": "answered",
            "/no": "refused",
            "/half": "aborted",
            "/slow": "aborted",
        }
        assert len(ended) == 4
        assert all(request.tunnel is not None for request in ended)


async def test_a_refusal_at_once_waits_for_no_other_policy(make_rig: MakeRig) -> None:
    ended: list[FinishedRequest] = []

    class Quick:
        @hookimpl(trylast=True)
        def authorize_request(self) -> Refuse:
            return Refuse(403, "no")

    class Counts:
        @hookimpl
        def authorize_request(self) -> Abstain:
            return Abstain(finished=ended.append)

    judge = Judge()
    judge.request = lambda request: slowly(None, 3600)
    hooks = with_plugins(counts=Counts, judge=judge, quick=Quick)
    async with make_rig(plugins=hooks) as rig, Service(answering(plain(b"app"))) as service:
        async with rig.tunnel(service.port) as host:
            assert (await rig.get(host)).status == 403
            await until(lambda: ended)

        assert len(ended) == 1
        assert 'kind="timeout"' not in rig.counted


async def test_headers_are_changed_on_both_ways_and_what_a_policy_hides_is_hidden(make_rig: MakeRig) -> None:
    class Changes:
        @hookimpl
        def authorize_request(self) -> Allow:
            return Allow(hidden=frozenset({"authorization"}))

        @hookimpl
        def transform_request_headers(self, tunnel: Tunnel, request: Request, headers: Headers) -> None:
            headers.set("X-Team", f"red {request.header('authorization')}")

        @hookimpl
        def transform_response_headers(self, status: int, headers: Headers) -> None:
            headers.remove("Server")
            headers.add("X-Status", str(status))

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(plain(await reader.readuntil(b"\r\n\r\n"), "Server: old"))

    async with make_rig(plugins=with_plugins(changes=Changes)) as rig, Service(echo) as service:
        async with rig.tunnel(service.port) as host:
            answer = await rig.get(host, "/", "Authorization: Bearer t0k3n", "X-Team: forged")

    assert b"\r\nX-Team: red Bearer t0k3n\r\n" in answer.body
    assert b"Authorization" not in answer.body and b"forged" not in answer.body
    assert (answer.field("server"), answer.field("x-status")) == (None, "200")


async def test_a_transformation_that_is_not_awaited_shows_nothing(make_rig: MakeRig) -> None:
    class Late:
        @hookimpl
        def transform_response_headers(self, headers: Headers) -> Any:
            return slowly(headers)

    async with make_rig(plugins=with_plugins(late=Late)) as rig, Service(answering(plain(b"secret"))) as service:
        async with rig.tunnel(service.port) as host:
            assert (await rig.get(host)).status == 502


@pytest.mark.parametrize("hook", ["transform_request_headers", "transform_response_headers"])
async def test_a_transformation_that_fails_shows_nothing(make_rig: MakeRig, hook: str) -> None:
    def fail(headers: Headers) -> None:
        headers.set("Content-Length", "0")

    plugin = type("Plugin", (), {hook: staticmethod(hookimpl(fail))})
    async with make_rig(plugins=with_plugins(bad=plugin)) as rig, Service(answering(plain(b"secret"))) as service:
        async with rig.tunnel(service.port) as host:
            answer = await rig.get(host)

        assert answer.status == 502
        assert b"secret" not in answer.body
        assert f'hook="{hook}",kind="raised",plugin="bad"' in rig.counted


# what plugins add


class Adds:
    """Adds a word, an address and a metric."""

    def __init__(self) -> None:
        self.counter = Counter("adds_seen", "Seen.", registry=None)

    @hookimpl
    def register_commands(self) -> list[Command]:
        async def greet(invocation: Invocation) -> str:
            return f"hello {invocation.client.user}, {len(invocation.tunnels)} tunnels, {invocation.words}"

        def fail(invocation: Invocation) -> str:
            raise CommandFailed("it cannot be done", 3)

        return [
            Command("greet", "Greet.", greet),
            Command("fail", "Fail.", fail),
            Command("hang", "Hang.", lambda invocation: slowly("", 3600)),  # type: ignore[arg-type,return-value]
        ]

    @hookimpl
    def register_routes(self) -> list[Route]:
        async def page(request: web.Request) -> web.Response:
            if request.match_info["what"] == "fail":
                raise RuntimeError("a defect")
            return web.Response(text=request.match_info["what"])

        async def away(request: web.Request) -> web.Response:
            raise web.HTTPFound("/elsewhere", headers={"X-Why": "moved"})

        return [
            Route("GET", "/adds/{what}", page, ("api",)),
            Route("GET", "/{any:.*}", away, ("auth",)),
        ]

    @hookimpl
    def register_metrics(self) -> list[Any]:
        return [self.counter]


async def test_a_plugin_adds_words_addresses_and_metrics(make_rig: MakeRig) -> None:
    async with make_rig(plugins=with_plugins(adds=Adds), hook_timeout=0.5) as rig, rig.client() as client:
        greeted = await client.run("greet a b")
        failed = await client.run("fail")
        hung = await client.run("hang")

        assert (greeted.stdout, greeted.exit_status) == ("hello env, 0 tunnels, ('a', 'b')\n", 0)
        assert (failed.stderr, failed.exit_status) == ("it cannot be done\n", 3)
        assert hung.exit_status == 1
        assert (await rig.get("api.tunnels.test", "/adds/x")).body == b"x"
        assert (await rig.get("api.tunnels.test", "/adds/fail")).status == 500
        assert (await rig.get("tunnels.test", "/adds/x")).status == 404
        away = await rig.get("auth.tunnels.test", "/adds/x")
        assert (away.status, away.field("location"), away.field("x-why")) == (302, "/elsewhere", "moved")
        assert (await rig.get("api.tunnels.test", "/adds/x", method="HEAD")).status == 200
        assert "adds_seen_total 0.0" in rig.counted


@pytest.mark.parametrize("given", [["text"], [GaugeMetricFamily("bad", "x", labels=["a"]), 1], 7])
async def test_a_collector_that_gives_nonsense_is_left_out(make_rig: MakeRig, given: Any) -> None:
    class Bad:
        def describe(self) -> list[Any]:
            return []

        def collect(self) -> Any:
            return given

    class Plugin:
        @hookimpl
        def register_metrics(self) -> list[Any]:
            return [Bad()]

    async with make_rig(plugins=with_plugins(bad=Plugin)) as rig:
        assert "tunnel_server_tunnels 0.0" in rig.counted
        assert 'hook="register_metrics",kind="raised",plugin="bad"} 1.0' in rig.counted


@pytest.mark.parametrize(
    ("hook", "value", "complaint"),
    [
        ("register_commands", [Command("hello", "x", str)], "server's own"),
        ("register_commands", [Command("Two Words", "x", str)], "no word"),
        ("register_commands", ["greet"], "did not return a list of Command"),
        ("register_routes", [Route("GET", "/healthz", print)], "the server's"),  # type: ignore[arg-type]
        ("register_routes", [Route("GET", "healthz", print)], "no route"),  # type: ignore[arg-type]
        ("register_metrics", [Counter("tunnel_server_tunnels", "x", registry=None)], "cannot be added"),
        ("register_metrics", [Counter("tunnel_server_requests", "x", registry=None)], "cannot be added"),
        ("register_metrics", [Gauge("tunnels", "x", registry=None)], "cannot be added"),
        ("register_metrics", [1], "no collector"),
        ("register_metrics", None, "did not return a list"),
        ("dns_challenge", 1, "no DnsChallenge"),
        ("startup", ValueError("the database is away"), "the database is away"),
    ],
)
async def test_a_plugin_that_wants_what_it_cannot_have_stops_the_start(
    make_rig: MakeRig, hook: str, value: Any, complaint: str, tmp_path: Path
) -> None:
    def give() -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    plugin = type("Plugin", (), {hook: staticmethod(hookimpl(give))})
    more = {
        "acme": "https://127.0.0.1:1/dir",
        "acme_hosts": ("tunnels.de",),
        "acme_folder": str(tmp_path / "acme"),
    }
    with pytest.raises(InvalidPlugin, match=f"plugin bad.*{complaint}"):
        async with make_rig(plugins=with_plugins(bad=plugin), **more):
            pass


# their lives


async def test_a_plugin_begins_before_the_ports_and_ends_after_what_it_was_told(make_rig: MakeRig) -> None:
    told: list[str] = []

    class Lives:
        @hookimpl
        async def startup(self, server: Server) -> None:
            told.append(f"startup {server.clients()} {server.tunnels()}")
            server.spawn(self.work())

        async def work(self) -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                told.append("cancelled")

        @hookimpl
        def tunnel_opened(self, tunnel: Tunnel) -> None:
            told.append("opened " + tunnel.request.text)

        @hookimpl
        async def tunnel_closed(self, tunnel: Tunnel) -> None:
            told.append("closed " + tunnel.request.text)

        @hookimpl
        def request_finished(self, request: FinishedRequest) -> None:
            told.append(f"request {request.status} {request.path}")

        @hookimpl
        def shutdown(self) -> None:
            told.append("shutdown")

    async with make_rig(plugins=with_plugins(lives=Lives)) as rig, Service(answering(plain(b"app"))) as service:
        async with rig.tunnel(service.port) as host:
            await rig.get(host, "/a?b")
            await until(lambda: "request 200 /a?b" in told)

    assert told == ["startup [] []", "opened /web", "request 200 /a?b", "closed /web", "cancelled", "shutdown"]


async def test_a_plugin_may_hang_up_on_a_client_and_close_a_tunnel(make_rig: MakeRig) -> None:
    servers: list[Server] = []

    class Ends:
        @hookimpl
        def startup(self, server: Server) -> None:
            servers.append(server)

    async with make_rig(plugins=with_plugins(ends=Ends)) as rig, Service(answering(plain(b"app"))) as service:
        async with rig.client() as other, rig.client() as client:
            await other.forward_remote_path_to_port("/other", "127.0.0.1", service.port)
            await client.forward_remote_path_to_port("/one", "127.0.0.1", service.port)
            await client.forward_remote_path_to_port("/two", "127.0.0.1", service.port)
            async with client.create_process() as session:
                one = next(tunnel for tunnel in servers[0].tunnels() if tunnel.request.name == "one")
                servers[0].close(one, "its time is up")
                servers[0].close(one, "again")
                async with asyncio.timeout(LIMIT):
                    while "its time is up" not in str(await session.stderr.readline()):
                        continue
                assert sorted(tunnel.request.name for tunnel in servers[0].tunnels()) == ["other", "two"]

                servers[0].disconnect(one.client, "goodbye")
                async with asyncio.timeout(LIMIT):
                    await client.wait_closed()
            assert [tunnel.request.name for tunnel in servers[0].tunnels()] == ["other"]
            assert not other.is_closed()


async def test_a_slow_listener_loses_events_and_nobody_waits(make_rig: MakeRig) -> None:
    class Slow:
        @hookimpl
        async def request_finished(self) -> None:
            await asyncio.sleep(3600)

    async with make_rig(plugins=with_plugins(slow=Slow)) as rig:
        events = rig.container.plugin_events()
        for _ in range(10_050):
            events.request_finished(None)

        assert (await rig.get("tunnels.test")).status == 200
        assert 'hook="request_finished",kind="dropped",plugin="slow"} 5' in rig.counted


async def test_a_plugin_that_raises_everywhere_harms_nobody(make_rig: MakeRig) -> None:
    class Hostile:
        @hookimpl
        def tunnel_opened(self) -> None:
            raise SystemExit(1)

        @hookimpl
        async def request_finished(self) -> None:
            raise KeyboardInterrupt

        @hookimpl
        def startup(self, server: Server) -> None:
            async def work() -> None:
                raise SystemExit(2)

            server.spawn(work())

        @hookimpl
        def shutdown(self) -> None:
            raise RuntimeError("no")

    async with make_rig(plugins=with_plugins(hostile=Hostile)) as rig, Service(answering(plain(b"app"))) as service:
        async with rig.tunnel(service.port) as host:
            assert (await rig.get(host)).body == b"app"
            for hook in ("tunnel_opened", "request_finished", "spawn"):
                await until(lambda hook=hook: f'hook="{hook}",kind="raised",plugin="hostile"' in rig.counted)  # type: ignore[misc]


async def test_a_plugin_that_keeps_the_loop_is_named(make_rig: MakeRig) -> None:
    judge, hooks = judged()
    judge.request = lambda request: time.sleep(0.1)
    async with make_rig(plugins=hooks) as rig, Service(answering(plain(b"app"))) as service:
        async with rig.tunnel(service.port) as host:
            assert (await rig.get(host)).body == b"app"

        assert 'hook="authorize_request",kind="slow",plugin="judge"} 1.0' in rig.counted


# cookies


async def test_our_cookies_reach_no_app_and_an_apps_cookies_reach_no_other(rig: Rig) -> None:
    heads: list[bytes] = []

    async def cookies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(
                plain(
                    b"x",
                    "Set-Cookie: a=1; Domain=.Tunnels.Test; Path=/",
                    "Set-Cookie: b=2; domain = test",
                    f"set-cookie: c=3; Domain={host}; Secure",
                    "Set-Cookie: preevy-saas-jwt=evil; Path=/",
                    "Set-Cookie: d=domain=tunnels.test",
                )
            )

    async with Service(cookies) as service, rig.tunnel(service.port) as host:
        answer = await rig.get(
            host, "/", "Cookie: x=1; preevy-saas-jwt=s3cret; y=2", "Cookie: preevy-urn:a=b", "Cookie: z=preevy-3"
        )

    assert b"Cookie: x=1; y=2\r\nCookie: z=preevy-3\r\n" in heads[0]
    assert b"s3cret" not in heads[0] and b"urn:a" not in heads[0]
    assert [value for name, value in answer.fields if name.lower() == "set-cookie"] == [
        "a=1; Path=/",
        "b=2",
        f"c=3; Domain={host}; Secure",
        "d=domain=tunnels.test",
    ]


async def test_a_client_that_is_refused_and_refused_does_not_fill_the_log(make_rig: MakeRig) -> None:
    judge, hooks = judged()
    judge.tunnel = Reject("no")
    async with make_rig(plugins=hooks) as rig, rig.client() as client:
        with structlog.testing.capture_logs() as logged:
            for name in range(200):
                with pytest.raises(asyncssh.ChannelListenError):
                    await client.forward_remote_path_to_port(f"/{name}", "127.0.0.1", 1)

        assert 20 <= sum(entry["event"] == "tunnel.refused" for entry in logged) < 60
        assert 'rejected_forwards_total{code="forward.rejected"} 200.0' in rig.counted


async def test_a_future_that_a_policy_shares_is_not_lost_with_one_visitor(make_rig: MakeRig) -> None:
    judge, hooks = judged()
    shared: list[asyncio.Task[Any]] = []

    def one_for_all(request: Request) -> Any:
        if not shared:
            shared.append(asyncio.ensure_future(slowly(None, 0.5)))
        return shared[0]

    judge.request = one_for_all
    async with make_rig(plugins=hooks) as rig, Service(answering(plain(b"app"))) as service:
        async with rig.tunnel(service.port) as host:
            others = [asyncio.create_task(rig.get(host)) for _ in range(3)]
            visit = await rig.connect()
            await visit.send("GET", "/", f"Host: {host}")
            await until(lambda: shared)
            sock = visit.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            visit.writer.transport.abort()

            assert [(await other).body for other in others] == [b"app"] * 3


async def test_a_visitor_that_was_answered_late_is_not_served_behind_it(make_rig: MakeRig) -> None:
    judge, hooks = judged()
    judge.request = lambda request: slowly(None, 3)
    limits = {"response_timeout": 0.5, "hook_timeout": 10.0}
    async with make_rig(plugins=hooks, **limits) as rig, Service(answering(plain(b"app"))) as service:
        async with rig.tunnel(service.port) as host:
            assert (await rig.get(host)).status == 503
            await rig.get("tunnels.test")

        assert service.connections == 0


async def test_an_answer_that_is_to_be_bare_opens_no_other_protocol(make_rig: MakeRig) -> None:
    judge, hooks = judged()
    judge.request = Allow(bare=True)
    switch = b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nsecret"
    async with make_rig(plugins=hooks) as rig, Service(answering(switch)) as service:
        async with rig.tunnel(service.port) as host:
            answer = await rig.get(host, "/", "Connection: Upgrade", "Upgrade: tcp")
        assert (answer.status, b"secret" in answer.body) == (502, False)


async def test_a_visitor_that_leaves_before_its_body_is_no_failure_in_the_log(rig: Rig) -> None:
    with structlog.testing.capture_logs() as logged:
        for _ in range(5):
            visit = await rig.connect()
            await visit.send("GET", "/login?env=x", "Host: auth.tunnels.test", "Content-Length: 9")
            visit.close()
            await visit.closed()
        assert (await rig.get("auth.tunnels.test", "/login?env=x")).status == 404
        await until(lambda: not [task for task in asyncio.all_tasks() if "_received" in repr(task.get_stack())])

    assert [entry for entry in logged if entry["log_level"] == "error"] == []
