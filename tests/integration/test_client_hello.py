"""ClientHellos of real programs, looked at after every piece that arrives."""

from __future__ import annotations

import asyncio

import pytest
from rig import LIMIT, need

from tunnel_server.domain.client_hello import ClientHello, read


async def hello_of(*command: str) -> ClientHello | None:
    """Run a client whose ``{port}`` is one that listens; return what its first octets ask for."""
    heard: asyncio.Future[ClientHello | None] = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data, hello = b"", None
        while hello is None and (piece := await reader.read(1)):
            data += piece
            hello = read(data)
        writer.close()
        if not heard.done():
            heard.set_result(hello)

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            *(word.format(port=port) for word in command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(LIMIT):
            hello = await heard
            await process.wait()
    return hello


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_openssl_s_client_is_understood(version: str) -> None:
    options = ["-servername", "Web.test", "-alpn", "ssh,http/1.1"]

    hello = await hello_of(need("openssl"), "s_client", "-connect", "127.0.0.1:{port}", version, *options)

    assert hello == ClientHello("web.test", (b"ssh", b"http/1.1"))


async def test_openssl_s_client_without_a_name_is_understood() -> None:
    hello = await hello_of(need("openssl"), "s_client", "-connect", "127.0.0.1:{port}", "-noservername")

    assert hello == ClientHello(None, ())


async def test_a_hello_that_openssl_spreads_over_records_is_understood() -> None:
    protocols = [f"protocol-{number}" for number in range(200)]
    options = ["-servername", "web.test", "-max_send_frag", "512", "-alpn", ",".join(protocols)]

    hello = await hello_of(need("openssl"), "s_client", "-connect", "127.0.0.1:{port}", *options)

    assert hello == ClientHello("web.test", tuple(protocol.encode() for protocol in protocols))


@pytest.mark.parametrize(("option", "alpn"), [("--http1.1", (b"http/1.1",)), ("--http2", (b"h2", b"http/1.1"))])
async def test_curl_is_understood(option: str, alpn: tuple[bytes, ...]) -> None:
    to = ["--resolve", "web-k3y1d.tunnels.test:{port}:127.0.0.1", "https://web-k3y1d.tunnels.test:{port}/"]

    hello = await hello_of(need("curl"), "-sk", "--noproxy", "*", option, *to)

    assert hello == ClientHello("web-k3y1d.tunnels.test", alpn)
