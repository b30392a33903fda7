"""The TLS port: HTTPS, SSH inside TLS and raw SSH, told apart; with real clients."""

from __future__ import annotations

import asyncio
import json
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from certs import Pair, make_pair
from rig import LIMIT, Rig, Service, answering, need, plain, until

HOST = "web-abcdefgh.tunnels.test"
HELLO = plain(b"hello")


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path, "tunnels.test", "*.tunnels.test")


@pytest.fixture
def tls(pair: Pair) -> dict[str, Any]:
    """The settings that switch the TLS port on."""
    return {"tls_cert_file": str(pair.cert), "tls_key_file": str(pair.key)}


@pytest.fixture
async def rig(make_rig: Callable[..., Any], tls: dict[str, Any]) -> AsyncIterator[Rig]:
    async with make_rig(**tls) as running:
        yield running


async def run(*command: str | Path, stdin: bytes = b"") -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(2 * LIMIT):
        out, error = await process.communicate(stdin)
    return process.returncode or 0, out.decode(), error.decode()


def curl(rig: Rig, pair: Pair, url: str, *options: str) -> list[str]:
    """Return a curl command that resolves every name to the server, and trusts the test's CA."""
    return [
        need("curl"), "-sS", "--max-time", "10", "--cacert", str(pair.ca), "--http1.1",
        "--connect-to", f"::127.0.0.1:{rig.tls.port}", *options, url,
    ]  # fmt: skip


# visitors


async def test_https_reaches_a_tunnel_and_the_service_hears_so(rig: Rig, pair: Pair) -> None:
    async with Service(answering(HELLO)) as service, rig.tunnel(service.port) as host:
        seen: list[bytes] = []
        service._handle = _recording(seen)
        code, out, error = await run(*curl(rig, pair, f"https://{host}:8443/path"))

    assert (code, out) == (0, "hello"), error
    assert b"X-Forwarded-Proto: https\r\n" in seen[0]
    assert b"X-Forwarded-Port: 8443\r\n" in seen[0]
    assert b"X-Forwarded-For: 127.0.0.1\r\n" in seen[0]
    assert f"X-Forwarded-Host: {host}:8443".encode() in seen[0]


def _recording(seen: list[bytes]) -> Callable[..., Any]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(HELLO)

    return handle


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("http", ["--http1.1", "--http1.0"])
async def test_both_versions_of_tls_and_of_http_are_served(rig: Rig, pair: Pair, version: str, http: str) -> None:
    async with Service(answering(HELLO)) as service, rig.tunnel(service.port) as host:
        options = (f"--tlsv{version}", "--tls-max", version, http)
        code, out, error = await run(*curl(rig, pair, f"https://{host}/", *options))

    assert (code, out) == (0, "hello"), error


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_older_versions_of_tls_are_refused(rig: Rig, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = context.maximum_version = version

    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        await rig.connect_tls(context, "tunnels.test")


async def test_the_base_host_reaches_a_browser(rig: Rig, pair: Pair) -> None:
    code, out, error = await run(*curl(rig, pair, "https://tunnels.test/healthz", "--http1.1"))

    assert (code, out) == (0, "OK"), error


async def test_without_a_server_name_the_first_certificate_serves(rig: Rig, pair: Pair) -> None:
    async with Service(answering(HELLO)) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect_tls(pair.client_context("http/1.1"), None)
        await visit.send("GET", "/", f"Host: {host}")

        assert (await visit.answer()).body == b"hello"


async def test_a_connection_serves_many_requests_large_ones_too(rig: Rig, pair: Pair) -> None:
    body = bytes(range(256)) * 8192
    seen: list[int] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            seen.append(len(await reader.readexactly(len(body))))
            writer.write(plain(body))
            await writer.drain()

    async with Service(handle) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect_tls(pair.client_context("http/1.1"), host)
        for _ in range(3):
            sending = asyncio.ensure_future(
                visit.send("POST", "/", f"Host: {host}", f"Content-Length: {len(body)}", body=body)
            )
            answer = await visit.answer("POST")
            await sending
            assert answer.body == body

    assert seen == [len(body)] * 3


async def test_a_slow_visitor_pauses_the_service(rig: Rig, pair: Pair) -> None:
    written = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (256 << 20))
        for _ in range(256):
            writer.write(bytes(1 << 20))
            await writer.drain()
            written += 1

    async with Service(handle) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect_tls(pair.client_context("http/1.1"), host)
        visit.writer.transport.pause_reading()
        await visit.send("GET", "/", f"Host: {host}")
        await until(lambda: written >= 1)
        before = -1
        while before != written:  # until nothing moves for a while
            before = written
            await until(_later(0.3))

    assert written < 64


def _later(seconds: float) -> Callable[[], bool]:
    at = asyncio.get_running_loop().time() + seconds
    return lambda: asyncio.get_running_loop().time() > at


async def test_a_websocket_goes_through(rig: Rig, pair: Pair) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        while data := await reader.read(100):
            writer.write(data.upper())

    async with Service(handle) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect_tls(pair.client_context("http/1.1"), host)
        await visit.send("GET", "/", f"Host: {host}", "Connection: Upgrade", "Upgrade: websocket")
        assert (await visit.answer()).status == 101
        await visit.raw(b"frames")
        assert await visit.reader.readexactly(6) == b"FRAMES"


async def test_plain_http_is_redirected(rig: Rig) -> None:
    visit = await rig.connect(port=rig.tls.port)
    await visit.send("POST", "/path?query", f"Host: {HOST}:8443", "Content-Length: 0")
    answer = await visit.answer()

    assert answer.status == 308
    assert answer.field("Location") == f"https://{HOST}:8443/path?query"


async def test_plain_http_is_refused_where_the_setting_says_so(make_rig: Callable[..., Any], tls: Any) -> None:
    async with make_rig(**tls, tls_redirect=False) as rig:
        visit = await rig.connect(port=rig.tls.port)
        await visit.send("GET", "/", f"Host: {HOST}:8443")
        answer = await visit.answer()

    assert answer.status == 400
    assert b"this port speaks HTTPS" in answer.body


async def test_http_2_is_offered_unless_the_setting_says_no(make_rig: Callable[..., Any], tls: Any, pair: Pair) -> None:
    chosen = []
    for http2 in (True, False):
        async with make_rig(**tls, http2=http2) as rig:
            visit = await rig.connect_tls(pair.client_context("h2", "http/1.1"), "tunnels.test")
            chosen.append(visit.writer.get_extra_info("ssl_object").selected_alpn_protocol())
            visit.close()
            await visit.closed()

    assert chosen == ["h2", "http/1.1"]


# certificates and hosts


async def test_a_host_of_another_certificate_is_misdirected(make_rig: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    folder.mkdir()
    make_pair(folder, "*.tunnels.test", stem="wild")
    pair = make_pair(folder, "other.test", stem="other")
    async with make_rig(tls_cert_dir=str(folder)) as rig, Service(answering(HELLO)) as service:
        async with rig.tunnel(service.port, "/one") as one, rig.tunnel(service.port, "/two") as two:
            context = pair.client_context("http/1.1")
            asked: dict[tuple[str, str], int] = {}
            for server_name in (one, "other.test"):
                for host in (one, f"{two}:8443", "other.test", "OTHER.test."):
                    visit = await rig.connect_tls(context, server_name)
                    await visit.send("GET", "/healthz", f"Host: {host}")
                    asked[server_name, host] = (await visit.answer()).status

    assert asked == {
        (one, one): 200, (one, f"{two}:8443"): 200, (one, "other.test"): 421, (one, "OTHER.test."): 421,
        ("other.test", one): 421, ("other.test", f"{two}:8443"): 421, ("other.test", "other.test"): 200,
        ("other.test", "OTHER.test."): 200,
    }  # fmt: skip


async def test_on_one_connection_each_request_is_looked_at(make_rig: Callable[..., Any], tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "*.tunnels.test")
    make_pair(tmp_path, "other.test", stem="other")
    async with make_rig(tls_cert_dir=str(tmp_path)) as rig, Service(answering(HELLO)) as service:
        async with rig.tunnel(service.port) as host:
            visit = await rig.connect_tls(pair.client_context("http/1.1"), host)
            await visit.send("GET", "/", f"Host: {host}")
            assert (await visit.answer()).status == 200
            await visit.send("GET", "/", "Host: other.test")
            assert (await visit.answer()).status == 421


async def test_a_certificate_is_swapped_under_load(rig: Rig, pair: Pair, tmp_path: Path) -> None:
    async with Service(answering(HELLO)) as service, rig.tunnel(service.port) as host:
        context = pair.client_context("http/1.1")
        old = await rig.connect_tls(context, host)
        served, stop = 0, False

        async def load() -> None:
            nonlocal served
            while not stop:
                visit = await rig.connect_tls(context, host)
                await visit.send("GET", "/", f"Host: {host}")
                assert (await visit.answer()).status == 200
                served += 1
                visit.close()

        loads = [asyncio.ensure_future(load()) for _ in range(4)]
        first = old.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
        make_pair(tmp_path, "tunnels.test", "*.tunnels.test")

        async def has_new() -> bool:
            visit = await rig.connect_tls(context, host)
            serial = visit.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
            visit.close()
            return bool(serial != first)

        async with asyncio.timeout(5):
            while not await has_new():
                pass
        stop = True
        await asyncio.gather(*loads)
        await old.send("GET", "/", f"Host: {host}")
        assert (await old.answer()).status == 200

    assert served > 10


async def test_an_expired_certificate_is_still_served(make_rig: Callable[..., Any], tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "tunnels.test", days=-1, since=-10)
    async with make_rig(tls_cert_file=str(pair.cert), tls_key_file=str(pair.key)) as rig:
        with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
            await rig.connect_tls(pair.client_context(), "tunnels.test")

        code, out, error = await run(*curl(rig, pair, "https://tunnels.test/healthz", "-k"))

    assert (code, out) == (0, "OK"), error


async def test_inline_certificates_are_served(make_rig: Callable[..., Any], pair: Pair) -> None:
    async with make_rig(tls_cert=pair.cert.read_text(), tls_key=pair.key.read_text()) as rig:
        code, out, error = await run(*curl(rig, pair, "https://tunnels.test/healthz"))

    assert (code, out) == (0, "OK"), error


async def test_a_session_is_resumed(rig: Rig, pair: Pair) -> None:
    command = [
        need("openssl"), "s_client", "-connect", f"127.0.0.1:{rig.tls.port}", "-servername", "tunnels.test",
        "-CAfile", pair.ca, "-tls1_2", "-reconnect", "-alpn", "http/1.1",
    ]  # fmt: skip
    _, out, error = await run(*command, stdin=b"Q\n")

    assert out.count("Reused, TLSv1.2") == 5, out + error


async def test_a_tunnel_under_localhost_has_a_certificate_for_development_that_curl_takes(
    make_rig: Callable[..., Any], tmp_path: Path
) -> None:
    settings = {"base_url": "https://localhost", "dev_tls": True, "dev_tls_folder": str(tmp_path / "dev")}
    async with make_rig(**settings) as rig, Service(answering(HELLO)) as service:
        trusted = Pair(Path(), Path(), tmp_path / "dev" / "ca.pem")
        async with rig.tunnel(service.port) as host:
            assert host.endswith(".localhost")
            code, out, error = await run(*curl(rig, trusted, f"https://{host}/"))
            assert (code, out) == (0, "hello"), error
        code, out, error = await run(*curl(rig, trusted, "https://localhost/healthz"))
        assert (code, out) == (0, "OK"), error
        await until(lambda: f"development {host}" not in rig.counted)


# SSH


def through_tls(rig: Rig, key: Path, *s_client: str | Path) -> list[str]:
    """Return an OpenSSH command that runs over ``openssl s_client``."""
    proxy = f"{need('openssl')} s_client -quiet -verify_quiet -connect 127.0.0.1:{rig.tls.port} " + " ".join(
        map(str, s_client)
    )
    command = rig.openssh(key=key, options=("-o", f"ProxyCommand={proxy}"))
    return [*command, "hello"]


@pytest.mark.parametrize(
    "s_client",
    [
        ("-alpn", "ssh", "-servername", "anything.test"),
        ("-alpn", "ssh", "-noservername"),
        ("-servername", "tunnels.test"),
        ("-servername", "TUNNELS.test"),
        ("-noservername",),
        ("-servername", "web-abcdefgh.tunnels.test"),
    ],
    ids=["alpn", "alpn-without-sni", "sni", "sni-in-capitals", "nothing-said", "a-tunnels-sni"],
)
async def test_openssh_logs_in_inside_tls(rig: Rig, s_client: tuple[str, ...]) -> None:
    code, out, error = await run(*through_tls(rig, rig.key(), *s_client))

    assert code == 0, error
    assert json.loads(out)["tunnels"] == {}


async def test_names_that_mean_ssh_can_be_set(make_rig: Callable[..., Any], tls: Any, pair: Pair) -> None:
    async with make_rig(**tls, ssh_hostnames=("ssh.tunnels.test",)) as rig:
        code, _, error = await run(*through_tls(rig, rig.key(), "-servername", "ssh.tunnels.test"))
        assert code == 0, error

        visit = await rig.connect_tls(pair.client_context(), "tunnels.test")
        await visit.send("GET", "/healthz", "Host: tunnels.test")
        assert (await visit.answer()).body == b"OK"


@pytest.mark.parametrize("host", ["tunnels.test", HOST])
async def test_a_visitor_that_negotiates_nothing_is_known_by_its_first_words(rig: Rig, pair: Pair, host: str) -> None:
    code, out, error = await run(*curl(rig, pair, f"https://{host}/healthz", "--no-alpn", "-o", "-"))

    assert code == 0, error
    assert ("OK" if host == "tunnels.test" else "No active tunnel") in out


@pytest.mark.parametrize(("server_name", "said"), [("tunnels.test", b"SSH-2.0-"), (HOST, b"HTTP/1.1 408 ")])
async def test_one_that_negotiates_nothing_and_is_silent_is_known_by_the_server_name(
    make_rig: Callable[..., Any], tls: Any, pair: Pair, server_name: str, said: bytes
) -> None:
    async with make_rig(**tls, head_timeout=0.5) as rig:
        visit = await rig.connect_tls(pair.client_context(), server_name)
        if server_name == HOST:
            await until(lambda: rig.container.relay()._visitors)
            await visit.raw(b"GET")
        async with asyncio.timeout(LIMIT):
            assert (await visit.reader.readline()).startswith(said)


async def test_openssh_logs_in_without_tls_on_the_same_port(rig: Rig) -> None:
    command = rig.openssh("hello", options=("-p", str(rig.tls.port)))
    command[command.index("-p") + 1] = str(rig.tls.port)
    code, out, error = await run(*command)

    assert code == 0, error
    assert json.loads(out)["tunnels"] == {}


async def test_a_tunnel_held_inside_tls_serves_requests(rig: Rig, pair: Pair) -> None:
    async with Service(answering(plain(b"x" * 300_000))) as service:
        forward = ("-R", f"/web:localhost:{service.port}")
        command = through_tls(rig, rig.key(), "-alpn", "ssh", "-servername", "tunnels.test")
        command[1:1] = forward
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        try:
            assert process.stdout is not None
            async with asyncio.timeout(LIMIT):
                hello = json.loads(await process.stdout.readline())
            host = hello["tunnels"]["/web"].split("/")[2].partition(":")[0]
            for _ in range(3):
                code, out, error = await run(*curl(rig, pair, f"https://{host}/"))
                assert (code, len(out)) == (0, 300_000), error
        finally:
            process.terminate()
            await process.wait()
        await until(lambda: not len(rig.registry))


async def test_a_silent_client_gets_the_ssh_banner_after_two_seconds(rig: Rig) -> None:
    started = asyncio.get_running_loop().time()
    visit = await rig.connect(port=rig.tls.port)
    async with asyncio.timeout(LIMIT):
        banner = await visit.reader.readline()

    assert banner.startswith(b"SSH-2.0-")
    assert 1.9 < asyncio.get_running_loop().time() - started < 4


async def test_a_silent_client_that_never_logs_in_is_closed(make_rig: Callable[..., Any], tls: Any) -> None:
    async with make_rig(**tls, login_timeout=1.0) as rig:
        visit = await rig.connect(port=rig.tls.port)

        assert (await visit.rest()).startswith(b"SSH-2.0-")


# those who mean no good


@pytest.mark.parametrize(
    "first", [b"\r\n", b"\x00" * 30, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"get / HTTP/1.1\r\n\r\n", b"\x16\x02\x00"]
)
async def test_what_is_neither_is_cut_off(rig: Rig, first: bytes) -> None:
    visit = await rig.connect(port=rig.tls.port)
    await visit.raw(first)

    assert await visit.rest() == b""


async def test_a_handshake_that_goes_wrong_is_answered_with_an_alert(rig: Rig) -> None:
    visit = await rig.connect(port=rig.tls.port)
    await visit.raw(b"\x16\x03\x01\x00\x05hello")
    answer = await visit.rest()

    assert answer[:1] == b"\x15"
    await until(lambda: 'tunnel_server_tls_handshakes_total{outcome="failed"} 1.0' in rig.counted)


@pytest.mark.parametrize("first", [b"S", b"GE", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"])
async def test_one_that_never_ends_its_first_words_is_cut_off(
    make_rig: Callable[..., Any], tls: Any, first: bytes
) -> None:
    async with make_rig(**tls, tls_handshake_timeout=1.0) as rig:
        visit = await rig.connect(port=rig.tls.port)
        await visit.raw(first)

        assert await visit.rest() == b""
        assert 'outcome="timeout"' in rig.counted


async def test_half_open_handshakes_by_the_thousand_leave_others_alone(
    make_rig: Callable[..., Any], tls: Any, pair: Pair
) -> None:
    hello = _client_hello(pair)
    async with make_rig(**tls, max_handshakes=300) as rig:
        visits = [await rig.connect("127.0.0.2", port=rig.tls.port) for _ in range(1000)]
        for number, visit in enumerate(visits):
            visit.writer.write(hello[: 1 + number % len(hello)] if number % 2 else hello)
        started = asyncio.get_running_loop().time()
        code, out, error = await run(*curl(rig, pair, "https://tunnels.test/healthz"))

        assert (code, out) == (0, "OK"), error
        assert asyncio.get_running_loop().time() - started < 5


def _client_hello(pair: Pair) -> bytes:
    outgoing = ssl.MemoryBIO()
    tls = pair.client_context("http/1.1").wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="tunnels.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


async def test_one_that_leaves_in_the_midst_of_its_hello_is_counted(rig: Rig, pair: Pair) -> None:
    visit = await rig.connect(port=rig.tls.port)
    await visit.raw(_client_hello(pair)[:50])
    visit.close()

    await until(lambda: 'tunnel_server_tls_handshakes_total{outcome="aborted"} 1.0' in rig.counted)


async def test_a_client_hello_may_come_byte_by_byte(rig: Rig, pair: Pair) -> None:
    visit = await rig.connect(port=rig.tls.port)
    for byte in _client_hello(pair):
        await visit.raw(bytes([byte]))
    async with asyncio.timeout(LIMIT):
        record, size = struct.unpack(">BxxH", await visit.reader.readexactly(5))

    assert (record, size > 50) == (0x16, True)


# what is told of visitors


async def test_hsts_is_said_over_tls_only_and_an_apps_own_stays(
    make_rig: Callable[..., Any], tls: Any, pair: Pair
) -> None:
    own = plain(b"own", "strict-transport-security: max-age=1")
    async with make_rig(**tls, hsts="max-age=300") as rig, Service(answering(HELLO, own)) as service:
        async with rig.tunnel(service.port) as host:
            visit = await rig.connect_tls(pair.client_context("http/1.1"), host)
            said = []
            for name in (host, host, "unknown-abcdefgh.tunnels.test"):
                await visit.send("GET", "/", f"Host: {name}")
                said.append((await visit.answer()).field("Strict-Transport-Security"))
            visit = await rig.connect_tls(pair.client_context("http/1.1"), "tunnels.test")
            await visit.send("GET", "/healthz", "Host: tunnels.test")
            said.append((await visit.answer()).field("Strict-Transport-Security"))
            said.append((await rig.get("unknown-abcdefgh.tunnels.test")).field("Strict-Transport-Security"))

    assert said == ["max-age=300", "max-age=1", "max-age=300", "max-age=300", None]


async def test_visitors_without_tls_are_sent_to_https_where_that_is_forced(
    make_rig: Callable[..., Any], tls: Any, pair: Pair
) -> None:
    settings = tls | {"base_url": "https://tunnels.test", "force_https": True, "trusted_proxies": _networks()}
    async with make_rig(**settings) as rig, Service(answering(HELLO)) as service:
        async with rig.tunnel(service.port) as host:
            plain_one = await rig.get(host, "/a?b")
            by_path = await rig.get("tunnels.test", f"/proxy/{host.partition('.')[0]}/a")
            root = await rig.get("tunnels.test", "/x")
            auth = await rig.get("auth.tunnels.test", "/login?x=1")
            unknown = await rig.get("nobody-abcdefgh.tunnels.test", "/")
            health = await rig.get("tunnels.test", "/healthz")
            told = await rig.get(host, "/", "X-Forwarded-Proto: https")
            code, out, error = await run(*curl(rig, pair, f"https://{host}/"))

    assert (plain_one.status, plain_one.field("Location")) == (308, f"https://{host}/a?b")
    assert (by_path.status, by_path.field("Location")) == (308, f"https://{host}/a")
    assert (root.status, root.field("Location")) == (308, "https://tunnels.test/x")
    assert (auth.status, auth.field("Location")) == (308, "https://auth.tunnels.test/login?x=1")
    assert (unknown.status, unknown.field("Location")) == (308, "https://nobody-abcdefgh.tunnels.test/")
    assert (health.status, told.status) == (200, 200)
    assert (code, out) == (0, "hello"), error


def _networks() -> Any:
    from ipaddress import ip_network

    return (ip_network("127.0.0.0/8"),)


async def test_a_tunnel_can_ask_for_https_only(make_rig: Callable[..., Any], tls: Any, pair: Pair) -> None:
    async with make_rig(**tls) as rig, Service(answering(HELLO)) as service:
        async with rig.client() as client:
            await client.forward_remote_path_to_port("/web#https=only", "127.0.0.1", service.port)
            hello = json.loads((await client.run("tunnel-url web")).stdout)
            host = hello["web"].split("/")[2].partition(":")[0]
            rig_port = rig.tls.port
            answer = await rig.get(host, "/a")
            code, out, error = await run(*curl(rig, pair, f"https://{host}/"))

    assert (answer.status, answer.field("Location")) == (308, f"https://{host}:{rig_port}/a")
    assert (code, out) == (0, "hello"), error


async def test_where_there_is_no_https_a_tunnel_for_https_only_is_not_served(make_rig: Callable[..., Any]) -> None:
    async with make_rig() as rig, Service(answering(HELLO)) as service, rig.tunnel(service.port, "/web") as host:
        assert (await rig.get(host)).status == 200
        async with rig.client() as client:
            with pytest.raises(asyncssh.ChannelListenError):
                await client.forward_remote_path_to_port("/web#https=only", "127.0.0.1", service.port)
            session = await client.run("hello")

    assert "https=only: this server has no HTTPS" in str(session.stderr)


# stopping


async def test_a_request_under_way_over_tls_may_finish_at_a_stop(
    make_rig: Callable[..., Any], tls: Any, pair: Pair
) -> None:
    go = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await go.wait()
        writer.write(HELLO)
        await writer.drain()

    async with Service(handle) as service:
        async with make_rig(**tls, grace_period=10.0) as rig, rig.tunnel(service.port) as host:
            visit = await rig.connect_tls(pair.client_context("http/1.1"), host)
            port = rig.tls.port
            await visit.send("GET", "/", f"Host: {host}")
            await until(lambda: service.connections)
            rig.tls.stop_accepting()
            draining = asyncio.ensure_future(rig.container.relay().drain(10.0))
            go.set()
            answer = await visit.answer()
            await draining

            assert (answer.body, answer.field("Connection")) == (b"hello", "close")
            with pytest.raises(ConnectionRefusedError):
                await rig.connect(port=port)
