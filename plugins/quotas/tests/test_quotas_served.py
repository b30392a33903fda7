"""Quotas of a server that runs: real clients, real visitors, HTTP/1.1 byte by byte where it matters."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from aiohttp import web
from tunnel_server_quotas import Quotas

from tunnel_server import Request, hookimpl
from tunnel_server.testing import Published, Refused, RunningServer, run_server, until

DAY = 86_400


class Gate:
    """A service that answers once it is let; ``inside`` are the requests that wait."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.inside = 0

    async def __call__(self, request: web.Request) -> web.Response:
        self.inside += 1
        try:
            await self.open.wait()
        finally:
            self.inside -= 1
        return web.Response(text="at last")


class Slow:
    """A policy that takes its time over requests for ``/slow``."""

    name = "slow"

    def __init__(self) -> None:
        self.asked = 0

    @hookimpl
    async def authorize_request(self, request: Request) -> None:
        if request.path == "/slow":
            self.asked += 1
            await asyncio.Event().wait()


class Ponder:
    """A policy that lets others have their turn before a tunnel is opened."""

    name = "ponder"

    @hookimpl
    async def authorize_tunnel(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


@asynccontextmanager
async def running(folder: Path, plugin: Quotas | None = None, **limits: Any) -> AsyncIterator[RunningServer]:
    settings = {f"quotas_{name}": value for name, value in limits.items()}
    async with run_server([plugin or Quotas()], settings=settings, folder=folder) as server:
        yield server


def tunnelled(**limits: Any) -> Callable[[Path], Any]:
    """Return what runs a server with limits, and one tunnel to a gate."""

    @asynccontextmanager
    async def make(folder: Path) -> AsyncIterator[tuple[RunningServer, Published, Gate]]:
        gate = Gate()
        async with running(folder, **limits) as server, server.tunnel(gate) as tunnel:
            yield server, tunnel, gate

    return make


class Visit:
    """A request that was sent, and whose answer is not waited for yet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def leave(self) -> None:
        """Go without waiting for an answer."""
        self._writer.close()

    def reset(self) -> None:
        """Go, and say that no answer is wanted."""
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()

    async def gone(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def status(self) -> int:
        async with asyncio.timeout(10):
            return int((await self._reader.readline()).split()[1])


async def visit(stack: AsyncExitStack, server: RunningServer, host: str, *head: str) -> Visit:
    """Send a request: its first line and its fields."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
    found = Visit(reader, writer)
    stack.push_async_callback(found.gone)
    first, *fields = head or ("GET / HTTP/1.1",)
    writer.write("\r\n".join([first, f"Host: {host}", *fields, "", ""]).encode())
    return found


def runs(server: RunningServer) -> float:
    return server.metric("tunnel_server_quotas_running_requests")


@pytest.mark.parametrize("scope", ["visitor", "tunnel", "key"])
async def test_requests_too_many_at_a_time_get_503_and_when_to_retry(tmp_path: Path, scope: str) -> None:
    make = tunnelled(**{f"concurrent_requests_per_{scope}": 2})
    async with make(tmp_path) as (server, tunnel, gate), AsyncExitStack() as stack:
        visits = [await visit(stack, server, tunnel.host) for _ in range(2)]
        await until(lambda: gate.inside == 2)

        answer = await tunnel.get()

        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert gate.inside == 2
        gate.open.set()
        assert [await each.status() for each in visits] == [200, 200]
        assert (await tunnel.get()).status == 200
        metric = "tunnel_server_quotas_refused_total"
        assert server.metric(metric, limit="concurrent_requests", kind=scope) == 1


async def test_visitors_who_leave_in_the_midst_leave_no_slot_taken(tmp_path: Path) -> None:
    make = tunnelled(concurrent_requests_per_visitor=4, concurrent_requests_per_tunnel=4, concurrent_requests_per_key=4)
    async with make(tmp_path) as (server, tunnel, gate), AsyncExitStack() as stack:
        unfinished = ("POST / HTTP/1.1", "Content-Length: 100000")
        for _ in range(15):
            whole = [await visit(stack, server, tunnel.host) for _ in range(2)]
            begun = [await visit(stack, server, tunnel.host, *unfinished) for _ in range(2)]
            await until(lambda: runs(server) == 4)
            for each in whole:
                each.reset()
            for each in begun:
                each.leave()
            await until(lambda: runs(server) == 0)

        visits = [await visit(stack, server, tunnel.host) for _ in range(4)]
        await until(lambda: gate.inside >= 4)
        assert (await tunnel.get()).status == 503
        gate.open.set()
        assert [await each.status() for each in visits] == [200] * 4
        assert runs(server) == 0


async def test_who_leaves_without_a_word_holds_a_slot_until_the_service_answers(tmp_path: Path) -> None:
    make = tunnelled(concurrent_requests_per_key=1)
    async with make(tmp_path) as (server, tunnel, gate), AsyncExitStack() as stack:
        (await visit(stack, server, tunnel.host)).leave()
        await until(lambda: gate.inside == 1)
        assert (await tunnel.get()).status == 503

        gate.open.set()

        await until(lambda: runs(server) == 0)
        assert (await tunnel.get()).status == 200


async def test_visitors_who_leave_while_a_slow_policy_decides_leave_no_slot_taken(tmp_path: Path) -> None:
    slow = Slow()
    settings = {"quotas_concurrent_requests_per_key": 2, "hook_timeout": 60}
    async with (
        run_server([Quotas(), slow], settings=settings, folder=tmp_path) as server,
        server.tunnel() as tunnel,
        AsyncExitStack() as stack,
    ):
        visits = [await visit(stack, server, tunnel.host, "GET /slow HTTP/1.1") for _ in range(2)]
        await until(lambda: slow.asked == 2)
        assert (await tunnel.get()).status == 503

        for each in visits:
            each.reset()

        await until(lambda: runs(server) == 0)
        assert (await tunnel.get()).status == 200


async def test_a_tunnel_that_breaks_off_leaves_no_slot_taken(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    gate = Gate()
    async with running(tmp_path, concurrent_requests_per_key=2) as server, AsyncExitStack() as stack:
        async with server.tunnel(gate, key=key) as tunnel:
            for _ in range(2):
                await visit(stack, server, tunnel.host)
            await until(lambda: gate.inside == 2)
            tunnel.client.abort()
            await until(lambda: runs(server) == 0)
        await until(lambda: not server.server.tunnels())

        async with server.tunnel(key=key) as tunnel:
            assert (await tunnel.get()).status == 200


@pytest.mark.parametrize("scope", ["visitor", "tunnel", "key"])
async def test_requests_too_fast_get_429_and_when_the_next_may_come(tmp_path: Path, scope: str) -> None:
    limits: dict[str, Any] = {f"requests_per_second_per_{scope}": "3/m", f"burst_per_{scope}": 3}
    async with running(tmp_path, **limits) as server, server.tunnel() as tunnel:
        statuses = [(await tunnel.get()).status for _ in range(3)]

        answer = await tunnel.get()

        assert statuses == [200] * 3
        assert answer.status == 429
        assert 10 < int(answer.headers["Retry-After"]) <= 20
        assert server.metric("tunnel_server_quotas_refused_total", limit="requests_per_second", kind=scope) == 1


async def test_the_next_request_may_come_after_retry_after(tmp_path: Path) -> None:
    now = [1000.0]
    plugin = Quotas(clock=lambda: now[0])
    async with running(tmp_path, plugin, requests_per_second_per_key="3/m") as server, server.tunnel() as tunnel:
        await tunnel.get()
        refused = await tunnel.get()
        assert refused.status == 429

        now[0] += int(refused.headers["Retry-After"]) - 1
        assert (await tunnel.get()).status == 429
        now[0] += 1
        assert (await tunnel.get()).status == 200


async def test_two_keys_do_not_disturb_each_other(tmp_path: Path) -> None:
    limits: dict[str, Any] = {
        "requests_per_second_per_key": "1/h",
        "requests_per_second_per_visitor": "1/h",
        "concurrent_requests_per_key": 1,
        "tunnels_per_key": 1,
    }
    async with (
        running(tmp_path, **limits) as server,
        server.tunnel(name="/one") as one,
        server.tunnel(name="/two") as two,
    ):
        assert (await one.get()).status == 200
        assert [(await one.get()).status for _ in range(20)] == [429] * 20

        assert (await two.get()).status == 200


async def test_two_connections_of_one_key_are_one(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with (
        running(tmp_path, requests_per_second_per_key="1/h") as server,
        server.tunnel(name="/one", key=key) as one,
        server.tunnel(name="/two", key=key) as two,
    ):
        assert (await one.get()).status == 200
        assert (await two.get()).status == 429


async def test_bytes_of_the_day_stop_requests_and_not_the_tunnel(tmp_path: Path) -> None:
    wall = [float(time.time() // DAY * DAY + DAY - 100)]
    body = b"x" * 60_000

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body)

    plugin = Quotas(wall=lambda: wall[0])
    async with running(tmp_path, plugin, bytes_per_day=200_000) as server, server.tunnel(answer) as tunnel:
        statuses = [(await tunnel.get(method="POST", body=body)).status for _ in range(2)]

        refused = await tunnel.get()

        assert statuses == [200, 200]  # of 120,000 octets each, the second one past the limit
        assert (refused.status, refused.headers["Retry-After"]) == (429, "100")
        assert [found.label for found in server.server.tunnels()] == [tunnel.tunnel.label]
        assert any(event["event"] == "quotas.bytes-spent" for event in server.log)
        wall[0] += 100
        assert (await tunnel.get()).status == 200


async def test_bytes_of_the_day_outlive_a_restart(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    limits: dict[str, Any] = {"bytes_per_day": 500, "state_file": tmp_path / "quotas"}

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * 1000)

    noon = time.time() // DAY * DAY + DAY / 2  # of a day that does not end meanwhile
    async with running(tmp_path, Quotas(wall=lambda: noon), **limits) as server:
        async with server.tunnel(answer, key=key) as tunnel:
            assert (await tunnel.get()).status == 200

    async with running(tmp_path, Quotas(wall=lambda: noon), **limits) as server:
        async with server.tunnel(answer, key=key) as tunnel:
            assert (await tunnel.get()).status == 429
        async with server.tunnel(answer) as other:
            assert (await other.get()).status == 200


async def test_a_tunnel_too_many_is_refused_over_all_connections_of_a_key(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with running(tmp_path, tunnels_per_key=2) as server, AsyncExitStack() as stack:
        for name in ("/one", "/two"):
            await stack.enter_async_context(server.tunnel(name=name, key=key))

        with pytest.raises(Refused, match=r"2 of 2 tunnels already \(tunnels_per_key\)"):
            await stack.enter_async_context(server.tunnel(name="/three", key=key))

        await stack.enter_async_context(server.tunnel(name="/three"))  # with another key


async def test_a_place_is_free_again_when_a_tunnel_is_closed(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with running(tmp_path, tunnels_per_key=1) as server:
        for name in ("/one", "/two", "/three"):
            async with server.tunnel(name=name, key=key):
                pass
            await until(lambda: not server.server.tunnels())


async def test_forwards_pipelined_over_several_connections_stay_within_the_limit(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    settings = {"quotas_tunnels_per_key": 5}
    async with (
        run_server([Quotas(), Ponder()], settings=settings, folder=tmp_path) as server,
        server.ssh(key) as first,
        server.ssh(key) as second,
    ):
        asked = [
            connection.forward_remote_path_to_port(f"/{name}-{at}", "127.0.0.1", 9)
            for name, connection in (("a", first), ("b", second))
            for at in range(10)
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)

        assert sum(not isinstance(answer, BaseException) for answer in answers) == 5
        assert len(server.server.tunnels()) == 5
        assert server.metric("tunnel_server_quotas_refused_total", limit="tunnels") == 15
        assert server.metric("tunnel_server_quotas_closed_tunnels_total") == 0
