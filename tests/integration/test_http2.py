"""HTTP/2 with real clients: curl, nghttp, h2load, and one of our own that does what they would not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import ssl
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from certs import make_pair
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from rig import LIMIT, Rig, Service, answering, need, plain, until, with_plugins

from tunnel_server import Allow, FinishedRequest, Headers, Refuse, Request, hookimpl

QUICK = 0.4  # seconds within which 99 of 100 small requests have to be answered beside any abuse, on a busy machine


@pytest.fixture
def lean_ssh() -> bool:
    """One way to handle packets is enough here."""
    return True


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, Any]:
    """The settings that switch the TLS port on."""
    pair = make_pair(tmp_path, "tunnels.test", "*.tunnels.test")
    return {"tls_cert_file": str(pair.cert), "tls_key_file": str(pair.key)}


@pytest.fixture
async def rig(make_rig: Any, tls: dict[str, Any]) -> AsyncIterator[Rig]:
    async with make_rig(**tls) as running:
        yield running


@pytest.fixture
def port(rig: Rig) -> int:
    """The port where visitors speak HTTP/2."""
    return int(rig.tls.port)


async def run(*command: str) -> str:
    """Return what a program prints, errors last."""
    process = await asyncio.create_subprocess_exec(
        need(command[0]), *command[1:], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return out.decode("latin-1") + err.decode("latin-1")


def to(port: int) -> tuple[str, ...]:
    """Return curl's options that bring it to the port whatever the host is."""
    return ("curl", "-sk", "--http2", "--max-time", "30", "--connect-to", f"::127.0.0.1:{port}")


class Browser:
    """A visitor over h2's client and a real socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader = reader
        self._writer = writer
        self.host = host
        self.h2 = H2Connection(H2Configuration(client_side=True, validate_outbound_headers=False))
        self.events: list[Event] = []
        self.gives_back = True
        self.closed = False

    @classmethod
    @asynccontextmanager
    async def at(cls, port: int, host: str, settings: dict[Any, int] | None = None) -> AsyncIterator[Browser]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=host)
        browser = cls(reader, writer, host)
        if settings:
            browser.h2.local_settings = Settings(client=True, initial_values=settings)
        browser.h2.initiate_connection()
        browser.flush()
        listening = asyncio.get_running_loop().create_task(browser._listen())
        try:
            yield browser
        finally:
            listening.cancel()
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await listening
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()

    async def _listen(self) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := await self._reader.read(65536):
                for event in self.h2.receive_data(data):
                    self.events.append(event)
                    if isinstance(event, DataReceived) and self.gives_back and event.flow_controlled_length:
                        self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self.flush()
        self.closed = True

    def flush(self) -> None:
        self.raw(self.h2.data_to_send())

    def raw(self, data: bytes) -> None:
        if data and not self._writer.is_closing():
            self._writer.write(data)

    async def drain(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    def ask(self, *fields: tuple[str, str], method: str = "GET", path: str = "/", end: bool = True) -> int:
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "https"), (":authority", self.host), (":path", path), *fields]
        self.h2.send_headers(stream, head, end_stream=end)
        self.flush()
        return stream

    def heard(self, kind: type[Event], stream: int | None = None) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind) and (stream is None or e.stream_id == stream)]

    async def answer(self, stream: int) -> tuple[int, bytes]:
        """Return a whole answer's status and body."""
        await until(lambda: self.heard(StreamEnded, stream) or self.heard(StreamReset, stream) or self.closed)
        assert self.heard(StreamEnded, stream), "the answer is not whole"
        status = int(dict(self.heard(ResponseReceived, stream)[0].headers)[b":status"])
        return status, b"".join(event.data for event in self.heard(DataReceived, stream))

    async def upload(self, stream: int, body: bytes) -> None:
        """Send ``body`` as the windows allow."""
        at = 0
        while at < len(body):
            room = await until(lambda: min(self.h2.local_flow_control_window(stream), 16384))
            self.h2.send_data(stream, body[at : at + room], end_stream=at + room >= len(body))
            at += room
            self.flush()
            await self.drain()


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">HBBBL", len(payload) >> 8, len(payload) & 255, kind, flags, stream) + payload


async def mirror(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with the request's body."""
    while head := await reader.readuntil(b"\r\n\r\n"):
        body = b""
        if length := re.search(rb"(?i)\r\ncontent-length: (\d+)", head):
            body = await reader.readexactly(int(length[1]))
        elif b"chunked" in head:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
        writer.write(plain(body or b"nothing"))
        await writer.drain()


async def test_curl_gets_and_posts(rig: Rig, port: int, tmp_path: Path) -> None:
    big = bytes(range(256)) * 12_000
    (tmp_path / "big").write_bytes(big)
    async with Service(mirror) as service, rig.tunnel(service.port) as host:
        assert await run(*to(port), f"https://{host}/", "-w", " %{http_version}") == "nothing 2"
        assert await run(*to(port), f"https://{host}/", "-d", "hello") == "hello"
        for more in ([], ["-H", "Content-Length:"], ["-H", "Expect: 100-continue"]):
            back = tmp_path / "back"
            await run(*to(port), f"https://{host}/", "-T", str(tmp_path / "big"), "-o", str(back), *more)
            assert back.read_bytes() == big
        assert (await run(*to(port), f"https://{host}/", "-I")).startswith("HTTP/2 200")


async def test_curl_reaches_the_servers_own_pages_and_hears_of_unknown_tunnels(rig: Rig, port: int) -> None:
    assert await run(*to(port), "https://tunnels.test/healthz") == "OK"
    assert "No active tunnel" in await run(*to(port), "https://nobody.tunnels.test/")


async def test_nghttp_gets_many_at_once(rig: Rig, port: int) -> None:
    async with Service(mirror) as service, rig.tunnel(service.port) as host:
        said = await run(
            "nghttp", "-nvy", "-m", "50", f"https://127.0.0.1:{port}/", "-H", f":authority: {host}", "--no-dep"
        )

    assert said.count(":status: 200") == 50


async def test_h2load_finds_no_failed_request(rig: Rig, port: int) -> None:
    async with Service(answering(plain(b"hello"))) as service, rig.tunnel(service.port) as host:
        said = await run(
            "h2load", "-c", "4", "-m", "10", "-n", "1000", "-H", f":authority: {host}", f"https://127.0.0.1:{port}/"
        )

    assert "1000 succeeded, 0 failed" in said


async def test_a_hundred_streams_at_once_are_all_answered(rig: Rig, port: int) -> None:
    async with Service(mirror) as service, rig.tunnel(service.port) as host, Browser.at(port, host) as browser:
        streams = [browser.ask(method="POST", end=False) for _ in range(100)]
        for stream in streams:
            browser.h2.send_data(stream, b"%d" % stream, end_stream=True)
        browser.flush()

        assert [await browser.answer(stream) for stream in streams] == [(200, b"%d" % stream) for stream in streams]


async def test_bodies_larger_than_all_windows_go_up_and_down_side_by_side(rig: Rig, port: int) -> None:
    async with Service(mirror) as service, rig.tunnel(service.port) as host, Browser.at(port, host) as browser:
        bodies = [bytes([65 + n]) * 3_000_000 for n in range(3)]
        streams = [browser.ask(method="POST", end=False) for _ in bodies]
        async with asyncio.timeout(60):
            await asyncio.gather(*(browser.upload(stream, body) for stream, body in zip(streams, bodies, strict=True)))
        assert [(await browser.answer(stream))[1] for stream in streams] == bodies


async def test_trailers_go_both_ways(rig: Rig, port: int) -> None:
    heads = asyncio.Queue[bytes]()

    async def grpc(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.put_nowait(await reader.readuntil(b"x-up: 1\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status\r\n\r\n")
        writer.write(b"2\r\nok\r\n0\r\ngrpc-status: 0\r\n\r\n")
        await writer.drain()
        await reader.read()

    async with Service(grpc) as service, rig.tunnel(service.port) as host, Browser.at(port, host) as browser:
        stream = browser.ask(("te", "trailers"), method="POST", end=False)
        browser.h2.send_data(stream, b"hello")
        browser.h2.send_headers(stream, [("x-up", "1")], end_stream=True)
        browser.flush()

        assert await browser.answer(stream) == (200, b"ok")
        assert b"TE: trailers\r\n" in await heads.get()
        assert [tuple(f) for f in browser.heard(TrailersReceived, stream)[0].headers] == [(b"grpc-status", b"0")]


async def test_a_websocket_over_h2_reaches_a_real_one(rig: Rig, port: int) -> None:
    import websockets
    from websockets.frames import Frame, Opcode

    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    async with websockets.serve(echo, "127.0.0.1", 0, compression=None) as server:
        inside = next(iter(server.sockets)).getsockname()[1]
        async with rig.tunnel(inside) as host, Browser.at(port, host) as browser:
            stream = browser.h2.get_next_available_stream_id()
            fields = [
                (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", host),
                (":path", "/"), ("sec-websocket-version", "13"),
            ]  # fmt: skip
            await until(lambda: browser.h2.remote_settings.enable_connect_protocol)
            browser.h2.send_headers(stream, fields)
            browser.flush()
            await until(lambda: browser.heard(ResponseReceived, stream))
            browser.h2.send_data(stream, Frame(Opcode.TEXT, b"hello").serialize(mask=True))
            browser.flush()
            await until(lambda: browser.heard(DataReceived, stream))
            assert browser.heard(DataReceived, stream)[0].data == Frame(Opcode.TEXT, b"hello").serialize(mask=False)

            browser.h2.send_data(stream, Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True))
            browser.flush()
            await until(lambda: browser.heard(StreamEnded, stream))


async def test_resets_in_the_midst_of_bodies_leave_the_connection_well(rig: Rig, port: int) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /cut"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\npart")
        elif head.startswith(b"GET /small"):
            writer.write(plain(b"small"))
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n")
            while head.startswith(b"GET"):
                writer.write(bytes(100_000))
                await writer.drain()
            await reader.read()
        await writer.drain()

    async with Service(endless) as service, rig.tunnel(service.port) as host, Browser.at(port, host) as browser:
        down, up, cut = browser.ask(), browser.ask(method="POST", end=False), browser.ask(path="/cut")
        await until(lambda: len(browser.heard(DataReceived, down)) > 3)
        browser.h2.send_data(up, bytes(10_000))
        browser.h2.reset_stream(down, ErrorCodes.CANCEL)
        browser.h2.reset_stream(up, ErrorCodes.CANCEL)
        browser.flush()
        assert (await until(lambda: browser.heard(StreamReset, cut)))[0].error_code == ErrorCodes.INTERNAL_ERROR

        assert await browser.answer(browser.ask(path="/small")) == (200, b"small")


# abuse, and how quick others are beside it


@asynccontextmanager
async def openssh_tunnel(rig: Rig, port: int) -> AsyncIterator[str]:
    """Publish a local port with a client in a process of its own, which can be killed in the midst of anything."""
    client = await asyncio.create_subprocess_exec(
        *rig.openssh(options=("-N", "-R", f"/web:localhost:{port}")), stdin=asyncio.subprocess.DEVNULL
    )
    try:
        await until(lambda: len(rig.registry) == 1)
        yield f"{rig.registry.all()[0].label}.tunnels.test"
    finally:
        client.kill()
        await client.wait()


async def others(port: int, host: str, took: list[float]) -> None:
    """Ask for something small again and again; note how long each took, in seconds."""
    async with Browser.at(port, host) as browser:
        while True:
            began = time.perf_counter()
            assert await browser.answer(browser.ask()) == (200, b"hello")
            took.append(time.perf_counter() - began)
            browser.events.clear()


@asynccontextmanager
async def stay_quick(port: int, host: str) -> AsyncIterator[list[float]]:
    """Ask for small things meanwhile, and be content with how long 99 of 100 of them take; gives the times so far."""
    took: list[float] = []
    asking = asyncio.get_running_loop().create_task(others(port, host, took))
    yield took
    assert not asking.done()
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    assert sorted(took)[int(len(took) * 0.99)] < QUICK


async def flood(browser: Browser, raw: bytes, times: int) -> None:
    for _ in range(times):
        if browser.closed:
            return
        browser.raw(raw)
        await browser.drain()


async def rapid_reset(browser: Browser) -> None:
    for _ in range(2000):
        if browser.closed:
            return
        stream = browser.ask()
        browser.h2.reset_stream(stream, ErrorCodes.CANCEL)
        browser.flush()
        await browser.drain()


async def pings(browser: Browser) -> None:
    await flood(browser, frame(6, 0, 0, bytes(8)) * 500, 40)


async def continuations(browser: Browser) -> None:
    browser.raw(frame(1, 1, 1, b"\x82"))
    await flood(browser, frame(9, 0, 1, bytes(10_000)), 200)


async def bomb(browser: Browser) -> None:
    browser.raw(frame(1, 5, 1, b"\x40\x01a\x7f\xff\x1d" + b"b" * 3966 + b"\xbe" * 12_000))


async def resettings(browser: Browser) -> None:
    await flood(browser, frame(4, 0, 0, b"\0\4\0\0\0\1") * 100, 40)


async def octets(browser: Browser) -> None:
    """Upload a body in frames of one octet."""
    stream = browser.ask(method="POST", end=False)
    while not browser.closed:
        room = await until(lambda: browser.closed or browser.h2.local_flow_control_window(stream) // 1000 * 1000)
        for _ in range(min(room, 16_000)):
            browser.h2.send_data(stream, b"x")
        browser.flush()
        await browser.drain()


async def huffman(browser: Browser) -> None:
    """Ask with fields that are slow to read, as much of them as is read; then with far too many."""
    name = browser.host.encode()
    fields = b"\x82\x87\x84\x41%c%b" % (len(name), name)
    for _ in range(20):
        stream = browser.h2.get_next_available_stream_id()
        browser.h2.send_headers(stream, [(":method", "GET")], end_stream=True)
        browser.h2.data_to_send()  # h2 has to know of the stream; what is sent is ours
        browser.raw(frame(1, 5, stream, fields + b"\x00\x01a\xff\xc0\x7b" + bytes(15_935)))
        await browser.drain()
    browser.raw(frame(1, 5, stream + 2, b"\x82" * 16_000))


ABUSES = [rapid_reset, pings, continuations, bomb, resettings, huffman]


async def attack(abuse: str, port: int, host: str) -> None:
    """Abuse one connection after another, and print what each ended with."""
    while True:
        with contextlib.suppress(OSError):
            async with Browser.at(port, host) as browser:
                with contextlib.suppress(OSError, ProtocolError):
                    await globals()[abuse](browser)
                await until(lambda browser=browser: browser.closed)
                print(*[int(event.error_code) for event in browser.heard(ConnectionTerminated)], flush=True)


@asynccontextmanager
async def attackers(abuse: Any, port: int, host: str) -> AsyncIterator[asyncio.StreamReader]:
    """Run four at once, in a process of their own; gives what they print."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, abuse.__name__, str(port), host,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        await process.communicate()


@pytest.mark.parametrize("abuse", ABUSES, ids=lambda abuse: abuse.__name__)
async def test_who_asks_too_much_loses_its_connection_and_others_stay_quick(rig: Rig, port: int, abuse: Any) -> None:
    async with Service(answering(plain(b"hello"))) as service, openssh_tunnel(rig, service.port) as host:
        async with attackers(abuse, port, host) as ended, asyncio.timeout(60):
            reasons = [await ended.readuntil(b"\n")]
            async with stay_quick(port, host) as took:
                while len(took) < 200:
                    reasons.append(await ended.readuntil(b"\n"))

    # Some never read the reason: they write until they are reset.
    assert set(reasons) <= {b"%d\n" % ErrorCodes.ENHANCE_YOUR_CALM, b"\n"}


async def test_others_stay_quick_beside_uploads_in_frames_of_one_octet(rig: Rig, port: int) -> None:
    came: list[int] = []
    uploads = set[asyncio.StreamReader]()

    async def take(reader: asyncio.StreamReader) -> None:
        uploads.add(reader)
        try:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                await reader.readexactly(size + 2)
                came.append(size)
        finally:
            uploads.discard(reader)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if b"chunked" in head:
                await take(reader)
            writer.write(plain(b"hello"))
            await writer.drain()

    async with Service(serve) as service, openssh_tunnel(rig, service.port) as host:
        async with attackers(octets, port, host):
            await until(lambda: len(uploads) == 4)
            async with stay_quick(port, host) as took:
                await until(lambda: len(took) >= 100, limit=60)
        await until(lambda: not uploads)

    assert sum(came) / len(came) > 10  # they come together, not one by one


async def test_a_visitor_with_a_window_of_one_stalls_only_itself(rig: Rig, port: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            writer.write(plain(bytes(2_000_000) if head.startswith(b"GET /large") else b"hello"))
            await writer.drain()

    async with Service(serve) as service, rig.tunnel(service.port) as host:
        async with Browser.at(port, host, {SettingCodes.INITIAL_WINDOW_SIZE: 1}) as stalled:
            stalled.gives_back = False
            streams = [stalled.ask(path="/large") for _ in range(20)]
            await until(lambda: len(stalled.heard(DataReceived)) == len(streams))
            async with stay_quick(port, host) as took:
                await until(lambda: len(took) >= 50)

    assert all(len(event.data) == 1 for event in stalled.heard(DataReceived))


async def test_small_requests_stay_quick_beside_a_large_upload_and_download(rig: Rig, port: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if head.startswith(b"GET /large"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n")
                for _ in range(80):
                    writer.write(bytes(100_000))
                    await writer.drain()
            elif length := re.search(rb"(?i)\r\ncontent-length: (\d+)", head):
                await reader.readexactly(int(length[1]))
                writer.write(plain(b"taken"))
            else:
                writer.write(plain(b"hello"))
            await writer.drain()

    async with Service(serve) as service, rig.tunnel(service.port) as host, Browser.at(port, host) as browser:
        down = browser.ask(path="/large")
        up = browser.ask(("content-length", "8000000"), method="PUT", end=False)
        upload = asyncio.get_running_loop().create_task(browser.upload(up, bytes(8_000_000)))
        took = []
        while not (upload.done() and browser.heard(StreamEnded, down)):
            began = time.perf_counter()
            assert await browser.answer(browser.ask()) == (200, b"hello")  # on the same connection
            took.append(time.perf_counter() - began)
        await upload
        assert len((await browser.answer(down))[1]) == 8_000_000
        assert await browser.answer(up) == (200, b"taken")

    assert sorted(took)[int(len(took) * 0.99)] < 2 * QUICK


async def test_a_stop_lets_streams_finish(rig: Rig, port: int) -> None:
    go_on = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await go_on.wait()
        writer.write(plain(b"late"))
        await writer.drain()
        await reader.read()

    async with Service(slow) as service, rig.tunnel(service.port) as host:
        relay = rig.container.relay()
        curl = asyncio.get_running_loop().create_task(run(*to(port), f"https://{host}/"))
        await until(lambda: service.connections)
        drain = asyncio.get_running_loop().create_task(relay.drain(LIMIT))
        await until(lambda: relay.stopping)
        go_on.set()

        assert await curl == "late"
        await drain


async def test_over_http_2_a_host_of_another_certificate_is_misdirected(make_rig: Any, tmp_path: Path) -> None:
    make_pair(tmp_path, "*.tunnels.test")
    make_pair(tmp_path, "other.test", stem="other")
    async with make_rig(tls_cert_dir=str(tmp_path)) as rig, Service(mirror) as service:
        async with rig.tunnel(service.port) as host:
            command = (*to(rig.tls.port), "-o", "/dev/null", "-w", "%{http_code} ")
            same = await run(*command, f"https://{host}/")
            other = await run(*command, f"https://{host}/", "-H", "Host: other.test")

    assert (same, other) == ("200 ", "421 ")


async def test_over_http_2_answers_insist_on_tls_where_the_setting_says_so(make_rig: Any, tls: Any) -> None:
    async with make_rig(**tls, hsts="max-age=300") as rig, Service(mirror) as service:
        async with rig.tunnel(service.port) as host:
            for name in (host, "nobody.tunnels.test", "tunnels.test"):
                head = await run(*to(rig.tls.port), "-i", f"https://{name}/")

                assert head.lower().count("strict-transport-security: max-age=300\r\n") == 1


async def test_over_http_2_the_service_hears_whom_a_proxy_told_of(make_rig: Any, tls: Any) -> None:
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(plain(b"hello"))

    async with make_rig(**tls, tls_proxy_protocol=(ip_network("127.0.0.1/32"),)) as rig, Service(handle) as service:
        async with rig.tunnel(service.port) as host:
            async with _balancer(rig.tls.port, b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n") as port:
                assert await run(*to(port), f"https://{host}/") == "hello"

    assert b"X-Forwarded-For: 203.0.113.7\r\n" in seen[0]
    assert b"X-Forwarded-Proto: https\r\n" in seen[0]


@asynccontextmanager
async def _balancer(to_port: int, header: bytes) -> AsyncIterator[int]:
    """Run a load balancer that passes TCP on behind ``header``."""

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        target.close()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", to_port)
        up_writer.write(header)
        await asyncio.gather(copy(reader, up_writer), copy(up_reader, writer))

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


if __name__ == "__main__":

    async def attack_by_four(abuse: str, port: str, host: str) -> None:
        await asyncio.gather(*(attack(abuse, int(port), host) for _ in range(4)))

    asyncio.run(attack_by_four(*sys.argv[1:]))


class Policy:
    """Takes its time for paths with `slow`, for ever for `hang`; refuses `no`; hears of each end."""

    def __init__(self) -> None:
        self.ended: list[FinishedRequest] = []
        self.asked: list[str] = []

    @hookimpl
    def authorize_request(self, request: Request) -> Any:
        self.asked.append(request.path)
        answer: Any = Refuse(499, "no") if "no" in request.path else Allow(finished=self.ended.append)
        return self._later(answer, 3600 if "hang" in request.path else 0.05) if request.path.count("slow") else answer

    async def _later(self, answer: Any, seconds: float) -> Any:
        await asyncio.sleep(seconds)
        return answer

    @hookimpl
    def transform_response_headers(self, headers: Headers) -> None:
        headers.set("X-Policy", "1")


async def test_policies_decide_over_each_stream_by_itself(make_rig: Any, tls: dict[str, Any]) -> None:
    policy = Policy()
    async with make_rig(plugins=with_plugins(policy=policy), **tls) as rig, Service(mirror) as service:
        async with rig.tunnel(service.port) as host, Browser.at(rig.tls.port, host) as browser:
            hanging = browser.ask(path="/slow-hang")
            refused, allowed = browser.ask(path="/slow-no"), browser.ask(path="/slow")
            posted = browser.ask(("content-length", "100000"), method="POST", path="/slow", end=False)
            await browser.upload(posted, b"x" * 100_000)

            assert [(await browser.answer(s))[0] for s in (refused, allowed, posted)] == [499, 200, 200]
            assert await browser.answer(browser.ask(path="/no")) != (200, b"nothing")
            assert (await browser.answer(posted))[1] == b"x" * 100_000
            assert dict(browser.heard(ResponseReceived, allowed)[0].headers)[b"x-policy"] == b"1"
            await until(lambda: len(policy.ended) == 2)
            browser.h2.reset_stream(hanging)
            browser.flush()
            assert await browser.answer(browser.ask(path="/")) == (200, b"nothing")

            await until(lambda: len(policy.ended) == 3)
    assert [request.outcome for request in policy.ended] == ["answered"] * 3
    assert policy.asked.count("/slow-hang") == 1
