"""The server on each event loop it may run on: uvloop, which it takes where there is one, and asyncio's own.

All other tests run on asyncio's. The lean path reads into a buffer of its own, which each loop does in its own way.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from certs import make_pair
from rig import LIMIT, Rig, Service, need, plain, until

from tunnel_server.adapters.ssh.aead import PacketCipher
from tunnel_server.app.settings import Settings

MIB = 1 << 20
SIZE = 8 * MIB

Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Return what runs a coroutine on one of the loops."""

    def on_loop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return on_loop


def server(folder: Path, lean: bool = True, **more: Any) -> Rig:
    """Return a server that runs while entered."""
    settings = Settings(
        base_url="http://tunnels.test:3000",
        port=0,
        ssh_port=0,
        metrics_port=0,
        listen_host="127.0.0.1",
        metrics_host="127.0.0.1",
        ssh_host_key_path=str(folder / "host_key"),
        grace_period=2.0,
        lean_ssh=lean,
        tls_port=0,
        **more,
    )
    return Rig(settings, folder)


async def logged_in(rig: Rig) -> Any:
    owner = await until(lambda: next((owner for owner in rig.ssh._lobby.owners if owner.client), None))
    return owner.connection


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with what came."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    writer.write(plain(await reader.readexactly(int(length.split()[1]))))
    await writer.drain()


async def send_and_get_back(rig: Rig, host: str, context: ssl.SSLContext | None = None) -> bool:
    """Send bytes through a tunnel and get them back; true if nothing changed."""
    sent = os.urandom(SIZE)
    visit = await (rig.connect_tls(context, host) if context else rig.connect())
    await visit.send("POST", "/", f"Host: {host}", f"Content-Length: {SIZE}", body=sent)
    async with asyncio.timeout(3 * LIMIT):
        status, _ = await visit.head()
        got = await visit.reader.readexactly(SIZE)
    assert status == 200
    return hashlib.sha256(got).digest() == hashlib.sha256(sent).digest()


@pytest.mark.parametrize("lean", [True, False], ids=["lean", "stock"])
@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr"])
def test_a_body_goes_there_and_back_intact_on_every_loop_with_every_cipher(
    run: Run, tmp_path: Path, cipher: str, lean: bool
) -> None:
    async def main() -> None:
        async with server(tmp_path, lean) as rig, Service(echo) as service:
            options = ("-N", "-c", cipher, "-o", "RekeyLimit=3M", "-R", f"/web:localhost:{service.port}")
            client = await asyncio.create_subprocess_exec(
                *rig.openssh(options=options), stdin=asyncio.subprocess.DEVNULL
            )
            try:
                await until(lambda: len(rig.registry) == 1)
                connection = await logged_in(rig)
                intact = await send_and_get_back(rig, f"{rig.registry.all()[0].label}.tunnels.test")
                kind = isinstance(connection._recv_encryption, PacketCipher)
            finally:
                client.kill()
                await client.wait()

        assert intact
        assert kind == (lean and cipher != "aes128-ctr")

    run(main)


def test_small_pieces_leave_at_once_on_every_loop(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with server(tmp_path) as rig, rig.client():
            connection = await logged_in(rig)
            await rig.connect()
            visitor = await until(lambda: next(iter(rig.container.relay()._visitors), None))

            options = [
                transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                for transport in (connection, visitor.transport)
            ]

            assert [bool(option) for option in options] == [True, True]

    run(main)


def test_a_visitor_that_stalls_and_goes_on_gets_every_byte_on_every_loop(run: Run, tmp_path: Path) -> None:
    block = os.urandom(MIB)

    async def sends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (16 * MIB))
        for _ in range(16):
            writer.write(block)
            await writer.drain()

    async def main() -> None:
        async with server(tmp_path) as rig, Service(sends) as service, rig.tunnel(service.port) as host:
            connection = await logged_in(rig)
            visit = await rig.connect()
            visit.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await visit.send("GET", "/", f"Host: {host}")
            await until(lambda: any(getattr(channel, "_kept", 0) for channel in connection._channels.values()))

            visit.writer.transport.resume_reading()  # type: ignore[attr-defined]
            await visit.head()

            async with asyncio.timeout(LIMIT):
                assert [await visit.reader.readexactly(MIB) == block for _ in range(16)] == [True] * 16

    run(main)


def test_many_clients_that_send_at_once_do_not_mix_what_they_send(run: Run, tmp_path: Path) -> None:
    """They are all read into one buffer."""

    async def main() -> None:
        async with server(tmp_path) as rig, Service(echo) as service:
            async with asyncio.TaskGroup() as group:
                for n in range(4):
                    group.create_task(one(rig, service.port, n))

    async def one(rig: Rig, port: int, n: int) -> None:
        async with rig.tunnel(port, f"/web{n}") as host:
            assert await send_and_get_back(rig, host)

    run(main)


@pytest.mark.parametrize("lean", [True, False], ids=["lean", "stock"])
@pytest.mark.parametrize("tls", ["-alpn ssh", None], ids=["inside-tls", "raw"])
def test_the_tls_port_takes_visitors_and_ssh_on_every_loop(
    run: Run, tmp_path: Path, tls: str | None, lean: bool
) -> None:
    pair = make_pair(tmp_path, "tunnels.test", "*.tunnels.test")

    async def main() -> None:
        files = {"tls_cert_file": str(pair.cert), "tls_key_file": str(pair.key)}
        async with server(tmp_path, lean, **files) as rig, Service(echo) as service:
            options = ["-N", "-o", "RekeyLimit=3M", "-R", f"/web:localhost:{service.port}"]
            if tls:
                s_client = f"{need('openssl')} s_client -quiet -verify_quiet -connect 127.0.0.1:{rig.tls.port} {tls}"
                options += ["-o", f"ProxyCommand={s_client}"]
            command = rig.openssh(options=tuple(options))
            command[command.index("-p") + 1] = str(rig.tls.port)
            client = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
            try:
                await until(lambda: len(rig.registry) == 1)
                host = f"{rig.registry.all()[0].label}.tunnels.test"
                async with asyncio.TaskGroup() as group:
                    visits = [
                        group.create_task(send_and_get_back(rig, host, pair.client_context("http/1.1")))
                        for _ in range(2)
                    ]
            finally:
                client.kill()
                await client.wait()

        assert [visit.result() for visit in visits] == [True, True]

    run(main)


def test_http_2_is_served_on_every_loop(run: Run, tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "tunnels.test", "*.tunnels.test")
    (tmp_path / "body").write_bytes(os.urandom(SIZE))

    async def main() -> None:
        files = {"tls_cert_file": str(pair.cert), "tls_key_file": str(pair.key)}
        async with server(tmp_path, **files) as rig, Service(echo) as service, rig.tunnel(service.port) as host:
            curl = await asyncio.create_subprocess_exec(
                need("curl"), "-sS", "--http2", "--cacert", pair.ca, "--connect-to", f"::127.0.0.1:{rig.tls.port}",
                "-T", tmp_path / "body", "-o", tmp_path / "back", "-w", "%{http_version}", f"https://{host}/",
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            async with asyncio.timeout(3 * LIMIT):
                out, _ = await curl.communicate()

        assert out == b"2"
        assert (tmp_path / "back").read_bytes() == (tmp_path / "body").read_bytes()

    run(main)
