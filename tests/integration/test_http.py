"""The data path: a visitor's bytes in, the service's bytes out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import websockets
from rig import LIMIT, Rig, Service, Visit, answering, need, plain, until


async def test_requests_on_one_connection_are_answered_on_one_channel(rig: Rig) -> None:
    async with Service(answering(plain(b"one"), plain(b"two"))) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        bodies = []
        for _ in range(2):
            await visit.send("GET", "/", f"Host: {host}")
            bodies.append((await visit.answer()).body)

        assert bodies == [b"one", b"two"]
        assert service.connections == 1


async def test_pipelined_requests_are_answered_in_order(rig: Rig) -> None:
    async def echo_path(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            writer.write(plain(head.split(b" ")[1]))

    async with Service(echo_path) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        await visit.raw(b"".join(b"GET /%d HTTP/1.1\r\nHost: %b\r\n\r\n" % (n, host.encode()) for n in range(50)))

        assert [(await visit.answer()).body for _ in range(50)] == [b"/%d" % n for n in range(50)]


@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_of_any_size_go_up_and_down_whole(rig: Rig, chunked: bool) -> None:
    size = 5_000_000

    async def mirror(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = b""
        if b"chunked" in head:
            while n := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(n + 2))[:-2]
            await reader.readexactly(2)
        else:
            body = await reader.readexactly(size)
        if chunked:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for at in range(0, size, 70_001):
                piece = body[at : at + 70_001]
                writer.write(b"%X;ext=1\r\n%b\r\n" % (len(piece), piece))
            writer.write(b"0\r\n\r\n")
        else:
            writer.write(plain(body))
        await writer.drain()
        await reader.read()

    sent = bytes(range(256)) * (size // 256) + bytes(size % 256)
    async with Service(mirror) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        if chunked:
            await visit.send("POST", "/", f"Host: {host}", "Transfer-Encoding: chunked")
            for at in range(0, size, 99_999):
                piece = sent[at : at + 99_999]
                await visit.raw(b"%x\r\n%b\r\n" % (len(piece), piece))
            await visit.raw(b"0\r\n\r\n")
        else:
            await visit.send("POST", "/", f"Host: {host}", f"Content-Length: {size}", body=sent)

        assert (await visit.answer()).body == sent


async def test_trailers_interim_answers_and_events_pass_at_once(rig: Rig) -> None:
    go_on = asyncio.Event()

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nfirst\r\n")
        await go_on.wait()
        writer.write(b"6\r\nsecond\r\n0\r\nX-Sum: 42\r\nContent-Length: 9\r\n\r\n")
        await reader.read()

    async with Service(stream) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        await visit.send("GET", "/", f"Host: {host}")
        assert await visit.head() == (103, [("Link", "</a>")])
        status, fields = await visit.head()
        assert (status, ("Transfer-Encoding", "chunked") in fields) == (200, True)
        assert await visit.reader.readuntil(b"first\r\n") == b"5\r\nfirst\r\n"

        go_on.set()

        assert await visit.reader.readuntil(b"\r\n\r\n") == b"6\r\nsecond\r\n0\r\nX-Sum: 42\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 999\r\nETag: x\r\n\r\n"),
    ],
)
async def test_an_answer_without_a_body_leaves_the_connection_usable(rig: Rig, method: str, answer: bytes) -> None:
    async with Service(answering(answer, plain(b"next"))) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        await visit.send(method, "/", f"Host: {host}")
        await visit.answer(method)
        await visit.send("GET", "/", f"Host: {host}")

        assert (await visit.answer()).body == b"next"
        assert service.connections == 1


async def test_what_an_app_sends_after_the_head_it_was_asked_for_reaches_nobody(rig: Rig) -> None:
    late = asyncio.Event()

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if head.startswith(b"HEAD"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\n")
                await late.wait()
                writer.write(plain(b"stolen"))
            else:
                late.set()
                writer.write(plain(b"mine"))

    async with Service(app) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        await visit.send("HEAD", "/", f"Host: {host}")
        assert (await visit.answer("HEAD")).field("content-length") == "43"
        await visit.send("GET", "/", f"Host: {host}")

        assert (await visit.answer()).body == b"mine"


async def test_a_request_that_expects_to_continue_is_told_to(rig: Rig) -> None:
    async def careful(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"100-continue" in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        writer.write(plain(await reader.readexactly(4)))
        await reader.read()

    async with Service(careful) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        await visit.send("PUT", "/", f"Host: {host}", "Content-Length: 4", "Expect: 100-continue")
        assert (await visit.head())[0] == 100
        await visit.raw(b"body")

        assert (await visit.answer()).body == b"body"


@pytest.mark.parametrize("protocol", ["websocket", "tcp", "WebSocket"])
async def test_an_upgraded_connection_is_bytes_both_ways_with_half_close(rig: Rig, protocol: str) -> None:
    async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert f"upgrade: {protocol.lower()}" in head
        assert "connection: upgrade" in head
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhi ")
        heard = await reader.read()  # until the visitor ends its side
        writer.write(b"heard " + heard)

    async with Service(upgrade) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        await visit.send(
            "GET", "/", f"Host: {host}", "Connection: keep-alive, Upgrade", f"Upgrade: {protocol}", body=b"early "
        )
        assert (await visit.head())[0] == 101
        await visit.raw(b"\0\xfflate")
        visit.writer.write_eof()

        assert await visit.rest() == b"hi heard early \0\xfflate"


async def test_a_refused_upgrade_is_a_real_answer(rig: Rig) -> None:
    async with (
        Service(answering(plain(b"no", status="426 Upgrade Required"))) as service,
        rig.tunnel(service.port) as host,
    ):
        answer = await rig.get(host, "/", "Connection: Upgrade", "Upgrade: websocket")
        assert (answer.status, answer.body) == (426, b"no")

    answer = await rig.get("nobody-x.tunnels.test", "/", "Connection: Upgrade", "Upgrade: websocket")
    assert answer.status == 502


@pytest.mark.parametrize(
    "broken",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n",
    ],
)
async def test_an_answer_that_breaks_off_never_looks_whole(rig: Rig, broken: bytes) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(broken)

    async with Service(break_off) as service, rig.tunnel(service.port) as host:
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await rig.get(host)


async def test_an_answer_that_ends_with_its_connection_is_whole(rig: Rig) -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")

    async with Service(old) as service, rig.tunnel(service.port) as host:
        answer = await rig.get(host)
        assert (answer.field("transfer-encoding"), answer.body) == ("chunked", b"all of it")

        visit = await rig.connect()
        await visit.raw(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        assert (await visit.rest()).endswith(b"\r\nConnection: close\r\n\r\nall of it")


async def test_a_dead_pooled_channel_costs_a_replayable_request_nothing(rig: Rig) -> None:
    go_away = asyncio.Event()

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(plain(b"ok"))
        await reader.readuntil(b"\r\n\r\n")  # takes the second request and leaves without an answer
        go_away.set()

    async with Service(once) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        for _ in range(3):
            await visit.send("GET", "/", f"Host: {host}")
            assert (await visit.answer()).body == b"ok"
        assert go_away.is_set()
        assert service.connections == 3


async def test_hop_by_hop_fields_and_lies_about_the_visitor_stay_behind(rig: Rig) -> None:
    seen = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        writer.write(plain(b"", "Connection: x-hop", "X-Hop: 1", "Keep-Alive: timeout=1", "X-End: 1"))
        await reader.read()

    async with Service(note) as service, rig.tunnel(service.port) as host:
        answer = await rig.get(
            host, "/", "Proxy-Authorization: x", "X-Forwarded-For: 6.6.6.6", "Forwarded: for=6.6.6.6",
            "X_Forwarded_For: 6.6.6.6", "X-Real-IP: 6.6.6.6",
            "Connection: x-mine, authorization", "X-Mine: 1", "Authorization: kept", "Upgrade: h2c", "Keep-Alive: 1",
        )  # fmt: skip

    lines = seen[0].split("\r\n")
    assert "x-forwarded-for: 127.0.0.1" in lines
    assert f"x-forwarded-host: {host}" in lines
    assert "authorization: kept" in lines
    assert f"host: {host}" in lines
    for gone in ("proxy-authorization", "6.6.6.6", "x-mine", "upgrade", "keep-alive", "x-real-ip", "connection"):
        assert gone not in seen[0]
    assert (answer.field("x-hop"), answer.field("keep-alive"), answer.field("x-end")) == (None, None, "1")


async def test_a_trusted_proxy_may_speak_for_the_visitor(make_rig: Callable[..., Any]) -> None:
    from ipaddress import ip_network

    async with make_rig(trusted_proxies=(ip_network("127.0.0.0/8"),)) as rig:

        async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(plain(await reader.readuntil(b"\r\n\r\n")))

        async with Service(tell) as service, rig.tunnel(service.port) as host:
            answer = await rig.get(host, "/", "X-Forwarded-For: 198.51.100.7", "X-Forwarded-Proto: https")

    assert b"X-Forwarded-For: 198.51.100.7, 127.0.0.1\r\n" in answer.body
    assert b"X-Forwarded-Proto: https\r\n" in answer.body


async def test_an_app_served_by_path_keeps_its_cookies_to_itself(rig: Rig) -> None:
    cookie = plain(b"x", "Set-Cookie: a=b; Path=/; Domain=tunnels.test")
    async with Service(answering(cookie)) as service, rig.tunnel(service.port) as host:
        label = host.partition(".")[0]

        answer = await rig.get("tunnels.test", f"/proxy/{label}/some?path")

    assert answer.field("set-cookie") == f"a=b; Path=/proxy/{label}/"


async def test_a_private_tunnel_sends_strangers_to_the_login(rig: Rig) -> None:
    async with Service(answering(plain(b"secret"))) as service, rig.tunnel(service.port, "/web#access=private") as _:
        label = rig.registry.all()[0].label

        answer = await rig.get(f"{label}.tunnels.test")
        assert answer.status == 307
        assert (answer.field("location") or "").startswith("http://auth.tunnels.test:3000/login?env=")
        by_path = await rig.get("tunnels.test", f"/proxy/{label}/a?b")
        assert (by_path.status, by_path.field("location")) == (307, f"http://{label}.tunnels.test:3000/a?b")
        assert service.connections == 0


@pytest.mark.parametrize(
    ("accept", "kind", "text"),
    [
        ("application/json", "application/json", b'{"message": "No active tunnel found"}'),
        ("text/html", "text/html", b"There is no tunnel of this name"),
        ("*/*", "text/plain", b"No active tunnel found\n"),
    ],
)
async def test_an_unknown_name_is_told_as_the_visitor_accepts(rig: Rig, accept: str, kind: str, text: bytes) -> None:
    answer = await rig.get("web-x.tunnels.test", "/", f"Accept: {accept}")

    assert answer.status == 502
    assert (answer.field("content-type") or "").startswith(kind)
    assert text in answer.body


async def test_a_page_tells_a_tunnel_that_is_gone_from_an_app_that_is_silent(rig: Rig, unused_tcp_port: int) -> None:
    async with rig.tunnel(unused_tcp_port) as host:
        silent = await rig.get(host, "/", "Accept: text/html")
    await until(lambda: not len(rig.registry))
    gone = await rig.get(host, "/", "Accept: text/html")

    assert (silent.status, gone.status) == (502, 502)
    assert b"The app behind this tunnel does not answer" in silent.body
    assert b"This tunnel is gone" in gone.body


async def test_the_control_plane_takes_over_between_requests_and_ends_the_connection(rig: Rig) -> None:
    async with Service(answering(plain(b"app"))) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        await visit.raw(
            f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\nGET /healthz HTTP/1.1\r\nHost: tunnels.test\r\n\r\n"
            f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        )
        assert (await visit.answer()).body == b"app"
        health = await visit.answer()

        assert (health.status, health.body, health.field("connection")) == (200, b"OK", "close")
        assert await visit.rest() == b""


async def test_readiness_ends_with_the_stop(rig: Rig) -> None:
    assert (await rig.get("tunnels.test", "/readyz")).status == 200

    rig.container.readiness().end()

    assert (await rig.get("tunnels.test", "/readyz")).status == 503
    assert (await rig.get("tunnels.test", "/healthz")).status == 200


BAD_HEADS = {
    "CL and TE": "POST / HTTP/1.1\r\nHost: {h}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two CL": "POST / HTTP/1.1\r\nHost: {h}\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\n",
    "CL list": "POST / HTTP/1.1\r\nHost: {h}\r\nContent-Length: 4, 4\r\n\r\n",
    "signed CL": "POST / HTTP/1.1\r\nHost: {h}\r\nContent-Length: +4\r\n\r\n",
    "bare LF": "GET / HTTP/1.1\nHost: {h}\n\n",
    "bare LF in a field": "GET / HTTP/1.1\r\nHost: {h}\r\nA: b\nC: d\r\n\r\n",
    "bare CR": "GET / HTTP/1.1\r\nHost: {h}\r\nA: b\rC: d\r\n\r\n",
    "obs-fold": "GET / HTTP/1.1\r\nHost: {h}\r\nA: b\r\n c\r\n\r\n",
    "space before colon": "GET / HTTP/1.1\r\nHost: {h}\r\nA : b\r\n\r\n",
    "two Hosts": "GET / HTTP/1.1\r\nHost: {h}\r\nHost: {h}\r\n\r\n",
    "no Host": "GET / HTTP/1.1\r\n\r\n",
    "other target": "GET http://other.test/ HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "NUL": "GET / HTTP/1.1\r\nHost: {h}\r\nA: \0\r\n\r\n",
    "space in target": "GET /a b HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "TE in 1.0": "POST / HTTP/1.0\r\nHost: {h}\r\nTransfer-Encoding: chunked\r\n\r\n",
    "bad chunk size": "POST / HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: chunked\r\n\r\n0x4\r\n",
    "negative chunk": "POST / HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: chunked\r\n\r\n-4\r\n",
    "long chunk": "POST / HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
    "chunk bare LF": "POST / HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: chunked\r\n\r\n1\na\n",
}


@pytest.mark.parametrize("name", BAD_HEADS)
async def test_a_message_that_can_be_read_in_two_ways_is_refused_and_the_connection_closed(rig: Rig, name: str) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with Service(swallow) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        await visit.raw(BAD_HEADS[name].format(h=host).encode())

        assert (await visit.answer()).status == 400
        assert await visit.rest() == b""


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: h\r\n" + "A: b\r\n" * 200 + "\r\n", 431),
        ("GET /" + "a" * 70_000 + " HTTP/1.1\r\nHost: h\r\n\r\n", 431),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405),
        ("GET / HTTP/1.1\r\nHost: h\r\nExpect: miracles\r\n\r\n", 417),
    ],
)
async def test_what_is_not_served_is_said_with_its_status(rig: Rig, head: str, status: int) -> None:
    visit = await rig.connect()
    await visit.raw(head.encode())

    assert (await visit.answer()).status == status


async def test_a_head_that_drips_is_cut_off(make_rig: Callable[..., Any]) -> None:
    async with make_rig(head_timeout=0.3) as rig:
        visit = await rig.connect()
        await visit.raw(b"GET / HTTP/1.1\r\n")

        assert (await visit.answer()).status == 408


async def test_beyond_its_channels_a_tunnel_queues_and_then_refuses(make_rig: Callable[..., Any]) -> None:
    release = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            await release.wait()
            writer.write(plain(b"done"))

    async with (
        make_rig(max_channels=4, queue_length=2) as rig,
        Service(slow) as service,
        rig.tunnel(service.port) as host,
    ):
        asked = [asyncio.create_task(rig.get(host)) for _ in range(3)]
        await until(lambda: service.connections == 2)
        relay = rig.container.relay()
        await until(lambda: sum(pool.waiting for pool in relay._pools.values()) == 1)

        refused = await rig.get(host)
        release.set()

        assert (refused.status, refused.field("retry-after")) == (503, "1")
        assert [(await task).body for task in asked] == [b"done"] * 3


async def test_a_visitor_who_leaves_takes_only_its_own_channel(rig: Rig) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/fine" in head:
            writer.write(plain(b"fine"))
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(bytes(65536))
            await writer.drain()

    async with Service(endless) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        await visit.send("GET", "/", f"Host: {host}")
        await visit.head()
        await visit.reader.readexactly(100_000)
        visit.writer.transport.abort()

        assert (await rig.get(host, "/fine")).body == b"fine"
        await until(lambda: b"tunnel_server_open_channels 0.0" in rig.container.metrics().render()[0])


async def test_idle_channels_are_closed(make_rig: Callable[..., Any]) -> None:
    async with make_rig(pool_idle_timeout=0.2) as rig, Service(answering(plain(b"x"))) as service:
        async with rig.tunnel(service.port) as host:
            await rig.get(host)

            await until(lambda: b"tunnel_server_open_channels 0.0" in rig.container.metrics().render()[0])


async def test_a_stop_lets_requests_in_flight_finish(make_rig: Callable[..., Any]) -> None:
    release, asked = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await release.wait()
        writer.write(plain(b"finished"))

    async with make_rig() as rig, Service(slow) as service, rig.tunnel(service.port) as host:
        port = rig.http.port
        request = asyncio.create_task(rig.get(host))
        await asked.wait()
        stop = asyncio.create_task(rig.http.__aexit__(None, None, None))
        await until(lambda: rig.container.relay().stopping)
        release.set()

        assert (await request).body == b"finished"
        await stop
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_a_visitor_who_came_just_before_a_stop_is_answered(make_rig: Callable[..., Any]) -> None:
    async with make_rig() as rig, Service(answering(plain(b"x"))) as service, rig.tunnel(service.port) as host:
        idle = await rig.connect()
        await idle.send("GET", "/", f"Host: {host}")
        assert (await idle.answer()).status == 200
        late, silent = await rig.connect(), await rig.connect()
        await until(lambda: b"tunnel_server_visitors 3.0" in rig.container.metrics().render()[0])
        stop = asyncio.create_task(rig.http.__aexit__(None, None, None))
        await until(lambda: rig.container.relay().stopping)

        await late.send("GET", "/", f"Host: {host}")
        answer = await late.answer()

        assert (answer.status, answer.field("connection")) == (200, "close")
        assert await idle.rest() == await silent.rest() == b""
        await stop


async def test_the_metrics_port_speaks_prometheus(rig: Rig) -> None:
    async with Service(answering(plain(b"x"))) as service, rig.tunnel(service.port) as host:
        await rig.get(host)
        visit = Visit(*await asyncio.open_connection("127.0.0.1", rig.metrics.port, limit=1 << 22))
        await visit.send("GET", "/metrics", "Host: m", "Connection: close")
        answer = await visit.answer()
        visit.close()

    client_id = host.partition(".")[0].removeprefix("web-")
    lines = answer.body.decode().splitlines()
    assert answer.field("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    assert "# TYPE requests counter" in lines
    for name, value in (("sshConnections", "1"), ("tunnels", "1"), ("requests", "1")):
        assert f'{name}{{clientId="{client_id}",serviceName="preevy-tunnel-server"}} {value}' in lines


async def test_a_real_websocket_client_talks_through_a_tunnel(rig: Rig) -> None:
    async def echo(socket: websockets.ServerConnection) -> None:
        async for message in socket:
            await socket.send(message)

    async with websockets.serve(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with rig.tunnel(port) as host:
            uri = f"ws://{host}:{rig.http.port}/"
            async with websockets.connect(uri, host="127.0.0.1", port=rig.http.port) as client:
                for message in ("hello", b"\x00" * 200_000, ""):
                    await client.send(message)
                    assert await client.recv() == message


@pytest.mark.parametrize("words", [(), ("-H", "Transfer-Encoding: chunked")], ids=["length", "chunked"])
async def test_curl_uploads_with_expect_and_downloads(rig: Rig, tmp_path: Path, words: tuple[str, ...]) -> None:
    async def mirror(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"100-continue" in head:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if b"chunked" in head:
            body = b""
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(size + 2))[:-2]
        else:
            body = await reader.readexactly(3_000_000)
        writer.write(plain(body))
        await writer.drain()

    (tmp_path / "up").write_bytes(os.urandom(3_000_000))
    async with Service(mirror) as service, rig.tunnel(service.port) as host:
        process = await asyncio.create_subprocess_exec(
            need("curl"), "-sS", "--fail", "-T", str(tmp_path / "up"), "-o", str(tmp_path / "down"), *words,
            "-H", f"Host: {host}", f"http://127.0.0.1:{rig.http.port}/",
        )  # fmt: skip
        async with asyncio.timeout(LIMIT):
            assert await process.wait() == 0

    assert (tmp_path / "down").read_bytes() == (tmp_path / "up").read_bytes()


async def test_a_head_and_the_body_that_came_with_it_go_to_the_service_in_one_packet(rig: Rig) -> None:
    async def takes_three(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\nabc"):
            writer.write(plain(b"taken"))

    async with Service(takes_three) as service, rig.tunnel(service.port) as host:
        visit = await rig.connect()
        await visit.send("POST", "/", f"Host: {host}", "Content-Length: 3", body=b"abc")  # opens the channel
        await visit.answer()
        transport = next(iter(rig.registry._by_transport))
        before = transport._send_seq

        await visit.send("POST", "/", f"Host: {host}", "Content-Length: 3", body=b"abc")
        answer = await visit.answer()

        assert (answer.body, transport._send_seq - before) == (b"taken", 1)


async def test_a_field_too_long_for_the_servers_own_pages_fills_no_log(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await rig.get("tunnels.test", "/", "X-Long: " + "x" * 9000)

    assert answer.status == 400
    assert not [record for record in caplog.records if record.exc_info]
