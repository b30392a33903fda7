"""Visitors who stall, leave, flood or fall silent: their affair alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import DEVNULL
from collections.abc import Callable
from typing import Any

import pytest
from rig import LIMIT, Rig, Service, answering, plain, until

from tunnel_server.adapters.proxy import upstream

WINDOW_ADJUST = 93  # RFC 4254 §5.2
CLIENT_WINDOW = 2 * 1024 * 1024  # bytes asyncssh's client takes ahead on a channel
BUFFERS = 16 * 1024 * 1024  # octets that sockets, windows and buffers of one stalled exchange may hold in all


def open_channels(rig: Rig) -> str:
    text: str = rig.container.metrics().render()[0].decode()
    return next(line for line in text.splitlines() if line.startswith("tunnel_server_open_channels ")).split()[1]


async def fill(writer: StreamWriter, stuck: asyncio.Event) -> int:
    """Write until nobody takes more, and say so; returns how much was taken."""
    taken = 0
    while True:
        writer.write(bytes(65536))
        try:
            async with asyncio.timeout(0.5):
                await writer.drain()
        except TimeoutError:
            stuck.set()
            return taken
        taken += 65536


async def test_a_body_that_stops_coming_is_given_up(make_rig: Callable[..., Any]) -> None:
    async def swallow(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.read()

    async with make_rig(body_timeout=0.3) as rig, Service(swallow) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        await visit.send("POST", "/", f"Host: {host}", "Content-Length: 10", body=b"half")

        assert (await visit.answer()).status == 408
        await until(lambda: open_channels(rig) == "0.0")


async def test_a_service_that_never_answers_is_told_as_a_gateway_timeout(make_rig: Callable[..., Any]) -> None:
    async def mute(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.read()

    async with make_rig(response_timeout=0.3) as rig, Service(mute) as service, rig.tunnel(service.port) as host:
        answer = await rig.get(host, "/", "Accept: application/json")

        assert answer.status == 504
        assert b"did not answer within 0.3 s" in answer.body


@pytest.mark.parametrize("kind", ["events", "websocket"])
async def test_a_stream_may_be_silent_for_longer_than_every_other_limit(
    make_rig: Callable[..., Any], kind: str
) -> None:
    speak = asyncio.Event()
    heads = {
        "events": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
        "websocket": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    }

    async def silent(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(heads[kind])
        await speak.wait()
        writer.write(b"at last")
        await reader.read(1)

    short = dict.fromkeys(("head_timeout", "body_timeout", "keepalive_timeout", "response_timeout"), 0.2)
    async with make_rig(**short) as rig, Service(silent) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        await visit.send("GET", "/", f"Host: {host}", "Connection: Upgrade", "Upgrade: websocket")
        await visit.head()
        for _ in range(2):  # others run into the limits meanwhile
            dripping = await rig.connect()
            await dripping.raw(b"GET")
            assert (await dripping.answer()).status == 408
        speak.set()

        async with asyncio.timeout(LIMIT):
            assert b"at last" in await visit.reader.readuntil(b"at last")


async def test_a_stream_silent_beyond_its_own_limit_is_cut_off(make_rig: Callable[..., Any]) -> None:
    async def silent(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        await reader.read()

    async with make_rig(idle_timeout=0.3) as rig, Service(silent) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        await visit.send("GET", "/", f"Host: {host}", "Connection: Upgrade", "Upgrade: tcp")
        await visit.head()

        assert await visit.rest() == b""
        await until(lambda: open_channels(rig) == "0.0")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHo",
        b"GET / HTTP/1.1\r\nHost: {h}\r\n\r\n",
        b"GET /late HTTP/1.1\r\nHost: {h}\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: {h}\r\nContent-Length: 99\r\n\r\nhalf",
        b"POST / HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal",
        b"GET / HTTP/1.1\r\nHost: {h}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET /late HTTP/1.1\r\nHost: {h}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: {h}\r\n\r\nGET / HTTP/1.1\r\nHost: {h}\r\n\r\nGET",
        b"GET /healthz HTTP/1.1\r\nHost: tunnels.test\r\n\r\n",
    ],
)
async def test_a_reset_at_any_moment_is_that_visitors_affair(rig: Rig, sent: bytes) -> None:
    asked = asyncio.Event()

    async def app(reader: StreamReader, writer: StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            asked.set()
            if b"/late" in head:
                await reader.read()
            elif b"Upgrade: websocket" in head:
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
                await reader.read()
            else:
                writer.write(plain(b"fine"))

    async with Service(app) as service, rig.tunnel(service.port) as host:
        bystander = await rig.connect()
        await bystander.send("GET", "/", f"Host: {host}")
        assert (await bystander.answer()).body == b"fine"
        for wait in (False, True):
            asked.clear()
            visit = await rig.connect()
            await visit.raw(sent.replace(b"{h}", host.encode()))
            if wait and b"{h}" in sent:
                await asked.wait()
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # on, 0 s: closing sends a reset
            visit.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            visit.writer.transport.abort()

        assert (await rig.get(host)).body == b"fine"
        assert len(rig.registry) == 1
        await until(lambda: float(open_channels(rig)) <= 2)  # the bystander's, and one in the pool


async def test_a_half_closed_visitor_gets_its_answer(rig: Rig) -> None:
    ended = asyncio.Event()

    async def late(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await ended.wait()
        writer.write(plain(b"late"))

    async with Service(late) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        await visit.send("GET", "/", f"Host: {host}")
        visit.writer.write_eof()
        relay = rig.container.relay()
        await until(lambda: any(visitor._ended for visitor in relay._visitors))
        ended.set()

        answer = await visit.answer()
        assert (answer.body, answer.field("connection")) == (b"late", "close")


async def test_the_visitor_with_most_connections_makes_room(make_rig: Callable[..., Any]) -> None:
    async with make_rig(max_visitors=3) as rig:
        first = await rig.connect()
        others = [await rig.connect() for _ in range(3)]
        for visit in others:
            await visit.send("GET", "/healthz", "Host: tunnels.test")

        assert await first.rest() == b""
        assert [(await visit.answer()).status for visit in others] == [200] * 3


async def test_a_download_nobody_takes_is_held_at_the_service_and_stalls_nobody(rig: Rig) -> None:
    stuck, taken = asyncio.Event(), []

    async def app(reader: StreamReader, writer: StreamWriter) -> None:
        if b"/fine" in await reader.readuntil(b"\r\n\r\n"):
            writer.write(plain(b"fine"))
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        taken.append(await fill(writer, stuck))
        writer.transport.abort()

    async with Service(app) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        visit.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await visit.send("GET", "/", f"Host: {host}")
        while not stuck.is_set():
            assert (await rig.get(host, "/fine")).body == b"fine"

        await until(lambda: taken)
        assert taken[0] < BUFFERS


async def test_an_upload_nobody_takes_is_held_at_the_visitor_and_arrives_whole_later(rig: Rig) -> None:
    go_on, stuck, read = asyncio.Event(), asyncio.Event(), []

    async def app(reader: StreamReader, writer: StreamWriter) -> None:
        if b"/fine" in await reader.readuntil(b"\r\n\r\n"):
            writer.write(plain(b"fine"))
            return
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await go_on.wait()
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        while data := await reader.read(1 << 20):
            read.append(len(data))

    async with Service(app) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        await visit.send("POST", "/", f"Host: {host}", "Content-Length: 10000000000")
        filling = asyncio.create_task(fill(visit.writer, stuck))
        while not stuck.is_set():
            assert (await rig.get(host, "/fine")).body == b"fine"
        taken = await filling

        assert taken < BUFFERS
        go_on.set()
        await until(lambda: sum(read) >= taken)


async def test_uploads_to_a_client_that_reads_nothing_are_held_at_the_visitors(rig: Rig) -> None:
    async def app(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.read()

    async with Service(app) as service:
        command = rig.openssh(options=("-N", "-R", f"/web:localhost:{service.port}"))
        client = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL)
        try:
            await until(lambda: len(rig.registry) == 1)
            label = rig.registry.all()[0].label
            visits = [await rig.connect() for _ in range(8)]
            for visit in visits:
                await visit.send("POST", "/", f"Host: {label}.tunnels.test", "Content-Length: 10000000000")
            await until(lambda: service.connections == 8)
            os.kill(client.pid, signal.SIGSTOP)
            taken = await asyncio.gather(*(fill(visit.writer, asyncio.Event()) for visit in visits))

            assert sum(taken) < 8 * BUFFERS
            (transport,) = rig.registry._by_transport
            assert transport._transport.get_write_buffer_size() < BUFFERS
        finally:
            client.kill()
            await client.wait()


async def test_forwarded_heads_and_bodies_stay_within_one_exchange(rig: Rig) -> None:
    """What a service says beyond its answer reaches no other visitor."""
    double = plain(b"mine") + plain(b"not yours")
    async with Service(answering(double)) as service, rig.tunnel(service.port) as host:
        assert [(await rig.get(host)).body for _ in range(5)] == [b"mine"] * 5
        assert service.connections == 5


async def test_a_body_in_chunks_of_one_octet_takes_turns_with_everybody_else(rig: Rig) -> None:
    got: list[int] = []

    async def count(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        while size := int(await reader.readuntil(b"\r\n"), 16):
            got.append(size)
            await reader.readexactly(size + 2)
        await reader.readuntil(b"\r\n")
        writer.write(plain(b"counted"))
        await writer.drain()

    loop, octets = asyncio.get_running_loop(), 100_000
    async with Service(count) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        asking = asyncio.create_task(visit.answer())
        await visit.send("POST", "/", f"Host: {host}", "Transfer-Encoding: chunked", body=b"1\r\nx\r\n" * octets)
        visit.writer.write(b"0\r\n\r\n")
        longest, before = 0.0, loop.time()
        while not asking.done():
            await asyncio.sleep(0)
            now = loop.time()
            longest, before = max(longest, now - before), now

        assert (await asking).body == b"counted"
        assert sum(got) == octets
        assert longest < 0.1


async def test_what_a_visitor_left_unsent_is_given_up_in_time(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service stopped reading: the channel counts until it is closed, and is closed before long."""
    monkeypatch.setattr(upstream, "END_WITHIN", 0.3)

    async def switch(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: tcp\r\n\r\n")
        writer.write_eof()
        await reader.read()

    async with Service(switch) as service, rig.client() as client:
        await client.forward_remote_path_to_port("/web", "127.0.0.1", service.port)
        urls = json.loads((await client.run("tunnel-url /web")).stdout)
        host = urls["/web"].split("/")[2]
        send = client.send_packet
        monkeypatch.setattr(
            client, "send_packet", lambda kind, *parts, **how: kind == WINDOW_ADJUST or send(kind, *parts, **how)
        )
        visit = await rig.connect()
        await visit.send("GET", "/", f"Host: {host}", "Connection: upgrade", "Upgrade: tcp")
        assert (await visit.answer()).status == 101
        await visit.raw(bytes(CLIENT_WINDOW + 65536))
        visit.writer.write_eof()

        assert await visit.rest() == b""
        assert open_channels(rig) == "1.0"
        await until(lambda: open_channels(rig) == "0.0")


async def test_a_request_of_http_1_0_without_a_host_reaches_its_tunnel_with_one(rig: Rig) -> None:
    heads: list[bytes] = []

    async def note(reader: StreamReader, writer: StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(plain(b"app"))
        await writer.drain()

    async with Service(note) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        await visit.raw(b"GET /proxy/%b/x HTTP/1.0\r\n\r\n" % host.partition(".")[0].encode())

        assert (await visit.rest()).endswith(b"app")
        assert heads[0].startswith(b"GET /x HTTP/1.1\r\nHost: tunnels.test:3000\r\n")
