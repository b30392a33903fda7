"""Channel windows over a long link, and over a short one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from rig import Rig, Service, Visit, until

from tunnel_server.domain.windows import START

HALF_TRIP = 0.025  # seconds


async def delayed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, half a round trip later, at any rate."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            loop.call_later(HALF_TRIP, writer.write, data)
    loop.call_later(HALF_TRIP, writer.close)


@asynccontextmanager
async def long_link(port: int) -> AsyncIterator[socket.socket]:
    """Give a socket that reaches ``port`` on this machine over a link with a round trip of 50 ms."""
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", port)
        tasks.add(asyncio.create_task(delayed(reader, there[1])))
        tasks.add(asyncio.create_task(delayed(there[0], writer)))
        writers.extend((writer, there[1]))

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, server.sockets[0].getsockname())
    try:
        yield sock
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
    while True:
        writer.write(bytes(65536))
        await writer.drain()


def channels(rig: Rig) -> list[Any]:
    """Return the open channels to services, of all clients."""
    return [
        channel
        for transport in rig.registry._by_transport
        for channel in transport._channels.values()
        if hasattr(channel, "_window")
    ]


async def test_a_download_over_a_long_link_gets_a_larger_window(rig: Rig) -> None:
    async with long_link(rig.ssh.port) as sock, Service(endless) as service:
        async with rig.tunnel(service.port, sock=sock) as host:
            visit = await rig.connect()
            await visit.send("GET", "/", f"Host: {host}")
            await visit.head()
            async with asyncio.timeout(20):
                while channels(rig)[0]._window < 8 * START:
                    await visit.reader.read(1 << 20)

            assert channels(rig)[0]._windows.round_trip > HALF_TRIP


async def test_a_window_that_grew_shrinks_while_little_comes(rig: Rig) -> None:
    calm = asyncio.Event()

    async def calms_down(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
        while True:
            writer.write(bytes(32768))
            await writer.drain()
            if calm.is_set():
                await asyncio.sleep(0.02)  # the service is slow; nobody waits for it

    async with long_link(rig.ssh.port) as sock, Service(calms_down) as service:
        async with rig.tunnel(service.port, sock=sock) as host:
            visit = await rig.connect()
            await visit.send("GET", "/", f"Host: {host}")
            await visit.head()
            reading = asyncio.create_task(read_all(visit))
            await until(lambda: channels(rig)[0]._window >= 8 * START)

            calm.set()

            await until(lambda: channels(rig)[0]._window <= 2 * START)
            reading.cancel()


async def read_all(visit: Visit) -> None:
    while await visit.reader.read(1 << 20):
        pass


async def test_a_download_over_a_short_link_keeps_a_small_window(rig: Rig) -> None:
    async with Service(endless) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        await visit.send("GET", "/", f"Host: {host}")
        await visit.head()
        for _ in range(64):
            await visit.reader.readexactly(1 << 20)

        assert [channel._window <= 2 * START for channel in channels(rig)] == [True]  # a busy machine answers late


async def test_the_window_of_a_channel_that_ends_is_given_back(rig: Rig) -> None:
    async with Service(endless) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        await visit.send("GET", "/", f"Host: {host}")
        await visit.head()
        windows = channels(rig)[0]._windows
        free = windows.free

        visit.close()

        await until(lambda: windows.free == free + START)
