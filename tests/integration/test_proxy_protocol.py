"""Ports behind a load balancer that tells of visitors with a PROXY header."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from certs import make_pair
from rig import LIMIT, Service, Visit, answering, plain, until

BALANCER, STRANGER = "127.0.0.1", "127.0.0.9"
BEHIND = (ip_network(f"{BALANCER}/32"),)
V1 = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n"
V2 = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11"
    + struct.pack(">H", 12)
    + socket.inet_aton("203.0.113.7")
    + socket.inet_aton("192.0.2.1")
    + struct.pack(">HH", 4711, 443)
)
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"


def telling(seen: list[bytes]) -> Callable[..., Any]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(plain(b"hello"))

    return handle


@pytest.mark.parametrize(
    ("header", "address"),
    [(V1, b"203.0.113.7"), (V2, b"203.0.113.7"), (LOCAL, b"127.0.0.1")],
    ids=["v1", "v2", "local"],
)
@pytest.mark.parametrize("size", [1, 1000], ids=["byte-by-byte", "at-once"])
async def test_the_service_hears_of_the_real_visitor(
    make_rig: Callable[..., Any], header: bytes, address: bytes, size: int
) -> None:
    seen: list[bytes] = []
    async with make_rig(http_proxy_protocol=BEHIND) as rig, Service(telling(seen)) as service:
        async with rig.tunnel(service.port) as host:
            visit = await rig.connect()
            data = header + f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
            for at in range(0, len(data), size):
                await visit.raw(data[at : at + size])
            assert (await visit.answer()).body == b"hello"

    assert b"X-Forwarded-For: %b\r\n" % address in seen[0]


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 4711\r\n",
        b"PROXY " + b"x" * 200,
        V2[:12] + b"\x21\x11\xff\xff" + bytes(100),
    ],
)
async def test_a_balancer_that_sends_no_header_or_a_bad_one_is_cut_off(
    make_rig: Callable[..., Any], first: bytes
) -> None:
    async with make_rig(http_proxy_protocol=BEHIND) as rig:
        visit = await rig.connect()
        await visit.raw(first)

        assert await visit.rest() == b""


async def test_a_stranger_may_not_tell_who_he_is(make_rig: Callable[..., Any]) -> None:
    seen: list[bytes] = []
    async with make_rig(http_proxy_protocol=BEHIND) as rig, Service(telling(seen)) as service:
        async with rig.tunnel(service.port) as host:
            visit = await rig.connect(STRANGER)
            await visit.raw(V1 + f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            refused = await visit.answer()
            visit = await rig.connect(STRANGER)
            await visit.send("GET", "/", f"Host: {host}")
            served = await visit.answer()

    assert (refused.status, served.status) == (400, 200)
    assert b"X-Forwarded-For: 127.0.0.9\r\n" in seen[0]


async def test_what_a_told_visitor_says_of_others_is_dropped(make_rig: Callable[..., Any]) -> None:
    seen: list[bytes] = []
    settings = {"http_proxy_protocol": BEHIND, "trusted_proxies": BEHIND}
    async with make_rig(**settings) as rig, Service(telling(seen)) as service:
        async with rig.tunnel(service.port) as host:
            visit = await rig.connect()
            await visit.raw(V1 + f"GET / HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: 10.1.1.1\r\n\r\n".encode())
            await visit.answer()

    assert b"X-Forwarded-For: 203.0.113.7\r\n" in seen[0]


async def test_a_silent_balancer_is_cut_off(make_rig: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunnel_server.adapters.tls.proxied.HEADER_WITHIN", 0.1)
    async with make_rig(http_proxy_protocol=BEHIND) as rig:
        visit = await rig.connect()

        assert await visit.rest() == b""


async def _behind(port: int, header: bytes) -> socket.socket:
    """Return a connected socket on which a balancer has told of its visitor."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    await loop.sock_connect(sock, ("127.0.0.1", port))
    await loop.sock_sendall(sock, header)
    return sock


@pytest.mark.parametrize("port", ["ssh", "tls"])
async def test_an_ssh_client_is_known_by_its_real_address(
    make_rig: Callable[..., Any], tmp_path: Path, port: str
) -> None:
    pair = make_pair(tmp_path, "tunnels.test")
    settings = {
        "ssh_proxy_protocol": BEHIND, "tls_proxy_protocol": BEHIND,
        "tls_cert_file": str(pair.cert), "tls_key_file": str(pair.key),
    }  # fmt: skip
    async with make_rig(**settings) as rig, Service(answering(plain(b"hello"))) as service:
        sock = await _behind(getattr(rig, port).port, V2)
        async with rig.client(sock=sock) as client:
            await client.forward_remote_path_to_port("/web", "127.0.0.1", service.port)
            hello = json.loads((await client.run("tunnel-url web")).stdout)
            label = hello["web"].split("/")[2].partition(".")[0]

            assert rig.registry.find(label).client.address == "203.0.113.7"
            assert (await rig.get(f"{label}.tunnels.test")).body == b"hello"


async def test_https_behind_a_balancer_that_passes_tls_on(make_rig: Callable[..., Any], tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "tunnels.test", "*.tunnels.test")
    seen: list[bytes] = []
    settings = {
        "tls_proxy_protocol": BEHIND, "tls_cert_file": str(pair.cert), "tls_key_file": str(pair.key),
    }  # fmt: skip
    async with make_rig(**settings) as rig, Service(telling(seen)) as service, rig.tunnel(service.port) as host:
        sock = await _behind(rig.tls.port, V1)
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=pair.client_context("http/1.1"), server_hostname=host
        )
        visit = Visit(reader, writer)
        await visit.send("GET", "/", f"Host: {host}")
        assert (await visit.answer()).body == b"hello"
        visit.close()
        await visit.closed()

    assert b"X-Forwarded-For: 203.0.113.7\r\n" in seen[0]
    assert b"X-Forwarded-Proto: https\r\n" in seen[0]


async def test_many_behind_one_balancer_do_not_displace_each_other_by_its_address(
    make_rig: Callable[..., Any], tmp_path: Path
) -> None:
    pair = make_pair(tmp_path, "tunnels.test")
    settings = {
        "tls_proxy_protocol": BEHIND, "tls_cert_file": str(pair.cert), "tls_key_file": str(pair.key),
        "max_handshakes": 4,
    }  # fmt: skip
    async with make_rig(**settings) as rig:
        patient = await _behind(rig.tls.port, V1.replace(b"203.0.113.7", b"198.51.100.1"))
        flood = [await _behind(rig.tls.port, V1) for _ in range(8)]
        await until(lambda: len(rig.tls._lobby) == 4)
        reader, writer = await asyncio.open_connection(
            sock=patient, ssl=_trusting(pair.client_context()), server_hostname="tunnels.test"
        )
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: tunnels.test\r\n\r\n")
        async with asyncio.timeout(LIMIT):
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()
        for sock in flood:
            sock.close()


def _trusting(context: ssl.SSLContext) -> ssl.SSLContext:
    context.set_alpn_protocols(["http/1.1"])
    return context
