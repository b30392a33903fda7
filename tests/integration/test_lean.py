"""The lean packet path with real clients, and that it can be off."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import Callable
from typing import Any

import asyncssh
import pytest
import structlog
from asyncssh.constants import MSG_CHANNEL_DATA
from asyncssh.packet import String
from rig import LIMIT, Rig, Service, Visit, answering, plain, until

from tunnel_server.adapters.ssh import lean
from tunnel_server.adapters.ssh.channel import PACKET, TunnelChannel
from tunnel_server.adapters.ssh.connection import Connection

MIB = 1 << 20


def metrics(rig: Rig) -> str:
    body: bytes = rig.container.metrics().render()[0]
    return body.decode()


async def logged_in(rig: Rig) -> Connection:
    owner = await until(lambda: next((owner for owner in rig.ssh._lobby.owners if owner.client), None))
    connection: Connection = owner.connection
    return connection


def test_the_lean_path_was_tested_with_the_asyncssh_that_is_installed() -> None:
    assert asyncssh.__version__ in lean.TESTED, "read asyncssh's changes, run the fuzz test long, then add the version"


async def test_with_an_asyncssh_it_was_not_tested_with_it_is_off_and_says_so_once(
    make_rig: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lean, "TESTED", frozenset({"1.0"}))

    with structlog.testing.capture_logs() as logs:
        async with make_rig(lean_ssh=True) as rig, Service(answering(plain(b"app"))) as service:
            async with rig.tunnel(service.port) as host:
                answer = await rig.get(host)
                kinds = {type(owner.connection) for owner in rig.ssh._lobby.owners}
                shown = metrics(rig)

    warnings = [entry for entry in logs if entry["event"] == "ssh.lean-path-off"]
    assert [(entry["log_level"], asyncssh.__version__ in entry["reason"]) for entry in warnings] == [("warning", True)]
    assert (answer.body, kinds) == (b"app", {Connection})
    assert "tunnel_server_ssh_lean_path 0.0\n" in shown


async def test_the_metric_tells_whether_the_path_is_on(rig: Rig, lean_ssh: bool) -> None:
    assert f"tunnel_server_ssh_lean_path {float(lean_ssh)}\n" in metrics(rig)


async def test_both_sides_send_small_pieces_at_once(rig: Rig) -> None:
    async with rig.client():
        connection = await logged_in(rig)
        await rig.connect()
        visitor = await until(lambda: next(iter(rig.container.relay()._visitors), None))

        for transport in (connection, visitor.transport):
            sock = transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_a_quiet_client_on_either_cipher_answers_signs_of_life(make_rig: Callable[..., Any]) -> None:
    for which in ("aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com"):
        async with make_rig(keepalive_interval=0.05, keepalive_count_max=2) as rig:
            client = await asyncio.create_subprocess_exec(*rig.openssh(options=("-N", "-c", which)))
            try:
                connection = await logged_in(rig)
                heard = connection._heard_times

                await until(lambda: connection._heard_times > heard + 8 or connection.closed)  # noqa: B023

                assert not connection.closed
                assert connection._unanswered <= 1
            finally:
                client.kill()
                await client.wait()


@pytest.mark.parametrize("which", ["aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"])
async def test_streams_both_ways_arrive_as_they_were_sent(rig: Rig, which: str) -> None:
    size = 32 * MIB
    block = os.urandom(MIB)

    async def swaps(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        digest = hashlib.sha256()
        for _ in range(size // MIB):
            digest.update(await reader.readexactly(MIB))
        digest_bytes = digest.digest()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (size + 32))
        for _ in range(size // MIB):
            writer.write(block)
            await writer.drain()
        writer.write(digest_bytes)

    async with Service(swaps) as service:
        options = ("-N", "-c", which, "-R", f"/web:localhost:{service.port}")
        client = await asyncio.create_subprocess_exec(*rig.openssh(options=options))
        try:
            await until(lambda: len(rig.registry) == 1)
            visit = await rig.connect()
            host = f"{rig.registry.all()[0].label}.tunnels.test"
            await visit.send("PUT", "/", f"Host: {host}", f"Content-Length: {size}")
            sent = hashlib.sha256()
            for _ in range(size // MIB):
                piece = os.urandom(MIB)
                sent.update(piece)
                await visit.raw(piece)
            async with asyncio.timeout(3 * LIMIT):
                await visit.head()
                intact = [await visit.reader.readexactly(MIB) == block for _ in range(size // MIB)]
                arrived = await visit.reader.readexactly(32)
        finally:
            client.kill()
            await client.wait()

    assert all(intact)
    assert arrived == sent.digest()


# memory


def promised(connection: Connection) -> int:
    """Return what the client was given leave to send, with what is kept for visitors that do not read."""
    channels = [channel for channel in connection._channels.values() if isinstance(channel, TunnelChannel)]
    return sum(channel._recv_window + channel._kept for channel in channels)


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if b"/small" in head:
        writer.write(plain(b"small"))
        return
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
    while True:
        writer.write(bytes(65536))
        await writer.drain()


async def stall(visit: Visit, host: str) -> None:
    """Ask for much and read nothing."""
    visit.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await visit.send("GET", "/", f"Host: {host}")


async def test_a_client_whose_visitors_do_not_read_has_its_memory_and_no_more(make_rig: Callable[..., Any]) -> None:
    async with make_rig(channel_memory=MIB) as rig, Service(endless) as service, rig.tunnel(service.port) as host:
        connection = await logged_in(rig)
        for _ in range(40):
            await stall(await rig.connect(), host)
        await until(lambda: sum(type(c._recv_paused) is bool for c in connection._channels.values()) >= 40)

        small = await rig.get(host, "/small")

        assert promised(connection) <= MIB
        assert small.body == b"small"


async def test_a_visitor_that_pauses_for_longer_than_a_window_gets_every_byte(rig: Rig) -> None:
    block = os.urandom(MIB)

    async def sends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (24 * MIB))
        for _ in range(24):
            writer.write(block)
            await writer.drain()

    async with Service(sends) as service, rig.tunnel(service.port) as host:
        connection = await logged_in(rig)
        visit = await rig.connect()
        await stall(visit, host)
        await until(lambda: any(getattr(c, "_kept", 0) for c in connection._channels.values()))

        visit.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await visit.head()

        async with asyncio.timeout(LIMIT):
            assert [await visit.reader.readexactly(MIB) == block for _ in range(24)] == [True] * 24


async def test_a_flood_of_single_bytes_for_a_visitor_that_does_not_read_takes_no_time(rig: Rig) -> None:
    async with Service(endless) as service, rig.tunnel(service.port) as host:
        connection = await logged_in(rig)
        visit = await rig.connect()
        await stall(visit, host)
        channel = await until(lambda: next((c for c in connection._channels.values() if getattr(c, "_kept", 0)), None))
        loop = asyncio.get_running_loop()
        channel._recv_buf.clear()
        channel._recv_window += channel._kept  # as if nothing had come yet
        channel._kept = 0
        before, began = len(channel._recv_buf), loop.time()

        for _ in range(200_000):
            channel._accept_data(b"x")
        channel._recv_paused = False
        channel._flush_recv_buf()

        assert before == 0
        assert loop.time() - began < 2


async def test_a_client_cannot_send_more_than_its_window(rig: Rig) -> None:
    async with Service(endless) as service, rig.tunnel(service.port) as host:
        connection = await logged_in(rig)
        await stall(await rig.connect(), host)
        await until(lambda: any(getattr(c, "_kept", 0) for c in connection._channels.values()))
        number, channel = next((n, c) for n, c in connection._channels.items() if getattr(c, "_kept", 0))
        client: Any = channel

        packet = asyncssh.packet.SSHPacket(String(bytes(client._recv_window + 1)))
        with pytest.raises(asyncssh.ProtocolError, match="Window exceeded"):
            channel.process_packet(MSG_CHANNEL_DATA, number, packet)


async def test_small_pieces_that_wait_for_the_window_leave_together(rig: Rig) -> None:
    async with Service(endless) as service, rig.tunnel(service.port) as host:
        connection = await logged_in(rig)
        await stall(await rig.connect(), host)
        channel: Any = await until(
            lambda: next((c for c in connection._channels.values() if getattr(c, "_kept", 0)), None)
        )
        channel._send_window = 0
        for _ in range(100_000):
            channel.write(b"x")
        before = connection._send_seq

        channel._send_window = 1 << 20
        channel._flush_send_buf()

        assert connection._send_seq - before <= 100_000 // PACKET + 2
