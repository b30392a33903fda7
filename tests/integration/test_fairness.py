"""No visitor, download or tunnel takes what others need."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from rig import Rig, Service, Visit, plain, until

from tunnel_server.adapters.ssh.listener import UNSENT

OTHER = "127.0.0.2"


async def hangs_unless_asked_not_to(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"GET /hang" not in head:
            writer.write(plain(b"at once"))


async def hang(rig: Rig, host: str, count: int, *fields: str) -> list[Visit]:
    """Start ``count`` requests of one visitor that are never answered."""
    visits = [await rig.connect() for _ in range(count)]
    for visit in visits:
        await visit.send("GET", "/hang", f"Host: {host}", *fields)
    return visits


async def test_a_visitor_that_takes_all_it_can_leaves_channels_to_others(make_rig: Callable[..., Any]) -> None:
    async with (
        make_rig(max_channels=8) as rig,
        Service(hangs_unless_asked_not_to) as service,
        rig.tunnel(service.port) as host,
    ):
        await hang(rig, host, 20)
        await until(lambda: service.connections == 4)

        visit = await rig.connect(OTHER)
        await visit.send("GET", "/", f"Host: {host}")

        assert (await visit.answer()).body == b"at once"


async def test_a_visitor_that_takes_all_it_can_on_one_tunnel_leaves_channels_on_the_clients_others(
    make_rig: Callable[..., Any],
) -> None:
    async with make_rig(max_channels_per_client=8) as rig, Service(hangs_unless_asked_not_to) as service:
        async with rig.client() as client:
            for name in ("/one", "/two"):
                await client.forward_remote_path_to_port(name, "127.0.0.1", service.port)
            one, two = [f"{tunnel.label}.tunnels.test" for tunnel in rig.registry.all()]
            await hang(rig, one, 10)
            await hang(rig, two, 10)
            await until(lambda: service.connections == 4)

            visit = await rig.connect(OTHER)
            await visit.send("GET", "/", f"Host: {two}")

            assert (await visit.answer()).body == b"at once"


async def test_a_visitor_waits_behind_its_own_requests_only(make_rig: Callable[..., Any]) -> None:
    gate = asyncio.Event()
    seen: list[bytes] = []

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append((await reader.readuntil(b"\r\n\r\n")).split()[1])
            await gate.wait()
            writer.write(plain(b"done"))

    async with make_rig(max_channels=1) as rig, Service(slow) as service, rig.tunnel(service.port) as host:
        greedy = [await rig.connect() for _ in range(6)]
        for number, visit in enumerate(greedy):
            await visit.send("GET", f"/greedy{number}", f"Host: {host}")
        pools = rig.container.relay()._pools
        await until(lambda: sum(pool.waiting for pool in pools.values()) == 5)
        modest = await rig.connect(OTHER)
        await modest.send("GET", "/modest", f"Host: {host}")
        await until(lambda: sum(pool.waiting for pool in pools.values()) == 6)

        gate.set()
        await modest.answer()

        assert b"/modest" in seen[:3]


async def test_one_visitor_cannot_fill_the_queue_for_others(make_rig: Callable[..., Any]) -> None:
    async with (
        make_rig(max_channels=2, queue_length=4) as rig,
        Service(hangs_unless_asked_not_to) as service,
        rig.tunnel(service.port) as host,
    ):
        greedy = await hang(rig, host, 6)
        refused = [await visit.answer() for visit in greedy[3:]]

        visit = await rig.connect(OTHER)
        await visit.send("GET", "/", f"Host: {host}")

        assert [answer.status for answer in refused] == [503] * 3
        assert (await visit.answer()).body == b"at once"


async def test_behind_a_trusted_proxy_each_address_it_tells_is_a_visitor(make_rig: Callable[..., Any]) -> None:
    from ipaddress import ip_network

    async with (
        make_rig(max_channels=8, trusted_proxies=(ip_network("127.0.0.0/8"),)) as rig,
        Service(hangs_unless_asked_not_to) as service,
        rig.tunnel(service.port) as host,
    ):
        await hang(rig, host, 20, "X-Forwarded-For: 198.51.100.1, 203.0.113.1")
        await until(lambda: service.connections == 4)

        answer = await rig.get(host, "/", "X-Forwarded-For: 203.0.113.1, 198.51.100.2")

        assert answer.body == b"at once"


async def test_small_requests_pass_a_download_that_stalls_and_one_that_runs(rig: Rig) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"/big" not in head:
                writer.write(plain(b"small"))
                continue
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
            while True:
                writer.write(bytes(65536))
                await writer.drain()

    async def swallow(visit: Visit) -> None:
        while await visit.reader.read(1 << 20):
            pass

    async with Service(handle) as service, rig.tunnel(service.port) as host:
        stalled, running = await rig.connect(), await rig.connect()
        await stalled.send("GET", "/big", f"Host: {host}")
        await running.send("GET", "/big", f"Host: {host}")
        reading = asyncio.create_task(swallow(running))
        small = await rig.connect()
        took = []
        for _ in range(50):
            began = asyncio.get_running_loop().time()
            await small.send("GET", "/", f"Host: {host}")
            await small.answer()
            took.append(asyncio.get_running_loop().time() - began)
        reading.cancel()

        assert sorted(took)[25] < 0.25


async def test_little_that_cannot_be_sent_yet_lies_in_the_kernel_before_a_small_request(rig: Rig) -> None:
    async with rig.client():
        owner = await until(lambda: next(iter(rig.ssh._lobby.owners), None))
        sock = owner.connection.get_extra_info("socket")

        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT
