"""Requests, bodies and answers over a stream: what the service hears, and what the visitor."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.settings import SettingCodes
from rig import until

from tunnel_server.adapters.proxy.http2.limits import ANSWERS, FRAME, LARGEST_WINDOW, STREAM_WINDOW
from tunnel_server.domain.arrival import Arrival
from tunnel_server.domain.metrics import Outcome

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_a_request_is_asked_in_http_1_1_and_its_answer_told(world: Any) -> None:
    peer = world.peer()
    stream = peer.ask(("accept", "text/plain"), ("cookie", "a=1"), ("cookie", "b=2"), path="/x?y")

    channel = await world.received(b"\r\n\r\n")
    assert channel.written == (
        b"GET /x?y HTTP/1.1\r\nHost: web-client01.tunnels.test\r\naccept: text/plain\r\ncookie: a=1; b=2\r\n"
        b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\n"
        b"X-Forwarded-Host: web-client01.tunnels.test\r\n\r\n"
    )
    channel.say(b"HTTP/1.1 201 Made\r\nX-Mine: 1 \r\nConnection: x-gone\r\nX-Gone: 1\r\nContent-Length: 2\r\n\r\nok")
    assert await peer.body(stream) == b"ok"

    [answer] = peer.heard(ResponseReceived, stream)
    assert [tuple(field) for field in answer.headers] == [
        (b":status", b"201"),
        (b"x-mine", b"1"),
        (b"content-length", b"2"),
    ]
    assert world.metrics.finished == [(201, Outcome.ANSWERED)]


async def test_streams_share_the_pool_of_channels(world: Any) -> None:
    peer = world.peer()
    for _ in range(3):
        stream = peer.ask()
        channel = await world.received(b"\r\n\r\n")
        channel.say(OK)
        await peer.body(stream)
        channel.written = b""

    assert world.client.asked == 1


async def test_a_body_with_a_length_and_one_without_reach_the_service_framed(world: Any) -> None:
    peer = world.peer()
    known = peer.ask(("content-length", "5"), end=False, method="POST")
    await world.received(b"Content-Length: 5\r\n\r\n")
    peer.h2.send_data(known, b"hello", end_stream=True)
    peer.flush()
    assert (await world.received(b"hello")).written.endswith(b"\r\n\r\nhello")

    unknown = peer.ask(end=False, method="POST")
    await world.received(b"chunked\r\n\r\n", 1)
    peer.h2.send_data(unknown, b"hello")
    peer.h2.send_headers(unknown, [("x-sum", "42"), ("content-length", "9")], end_stream=True)
    peer.flush()
    assert (await world.received(b"0\r\n", 1)).written.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 42\r\n\r\n")


async def test_a_body_that_came_whole_with_its_head_is_sent_with_a_length(world: Any) -> None:
    peer = world.peer()
    stream = peer.h2.get_next_available_stream_id()
    peer.h2.send_headers(
        stream, [(":method", "POST"), (":scheme", "https"), (":authority", "web-client01.tunnels.test"), (":path", "/")]
    )
    peer.h2.send_data(stream, b"hello", end_stream=True)
    peer.flush()

    channel = await world.received(b"hello")
    assert channel.written.endswith(b"Content-Length: 5\r\n\r\nhello")
    assert b"chunked" not in channel.written


async def test_interim_answers_and_trailers_pass(world: Any) -> None:
    peer = world.peer()
    stream = peer.ask(("te", "trailers"))
    channel = await world.received(b"TE: trailers\r\n")
    channel.say(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    channel.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nGrpc-Status: 0\r\n\r\n")
    assert await peer.body(stream) == b"ok"

    [interim] = peer.heard(InformationalResponseReceived, stream)
    assert (b"link", b"</a>") in interim.headers
    [trailers] = peer.heard(TrailersReceived, stream)
    assert [tuple(field) for field in trailers.headers] == [(b"grpc-status", b"0")]


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
    ],
)
async def test_an_answer_without_a_body_ends_with_its_head(world: Any, method: str, answer: bytes) -> None:
    peer = world.peer()
    stream = peer.ask(method=method)
    (await world.received(b"\r\n\r\n")).say(answer)
    await peer.body(stream)

    [head] = peer.heard(ResponseReceived, stream)
    assert head.stream_ended is not None


async def test_an_answer_that_breaks_off_is_never_completed(world: Any) -> None:
    peer = world.peer()
    stream = peer.ask()
    channel = await world.received(b"\r\n\r\n")
    channel.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
    channel.receiver.connection_lost()

    assert await peer.reset(stream) == ErrorCodes.INTERNAL_ERROR
    assert b"".join(event.data for event in peer.heard(DataReceived, stream)) == b"part"
    assert not peer.heard(StreamEnded, stream)
    assert world.metrics.finished == [(200, Outcome.UNREACHABLE)]


async def test_a_dead_channel_of_the_pool_is_replaced_for_what_may_be_sent_twice(world: Any) -> None:
    peer = world.peer()
    first = peer.ask()
    channel = await world.received(b"\r\n\r\n")
    channel.say(OK)
    await peer.body(first)

    second = peer.ask(path="/again")
    await world.received(b"/again")
    channel.receiver.eof_received()
    (await world.received(b"/again", 1)).say(OK)

    assert await peer.body(second) == b"ok"


async def test_a_reset_by_the_visitor_drops_the_channel_and_no_other_stream(world: Any) -> None:
    peer = world.peer()
    gone, stays = peer.ask(path="/gone"), peer.ask(path="/stays")
    await world.channel(1)
    await until(lambda: all(channel.written for channel in world.client.channels))
    peer.h2.reset_stream(gone, ErrorCodes.CANCEL)
    peer.flush()

    lost, kept = sorted(world.client.channels, key=lambda channel: b"/stays" in channel.written)
    assert lost.closed and not kept.closed
    kept.say(OK)
    assert await peer.body(stays) == b"ok"
    assert world.metrics.finished == [(0, Outcome.ABORTED), (200, Outcome.ANSWERED)]


async def test_an_answer_before_the_request_is_whole_ends_the_upload(world: Any) -> None:
    peer = world.peer()
    stream = peer.ask(end=False, method="POST")
    channel = await world.received(b"\r\n\r\n")
    channel.say(OK)
    await peer.body(stream)

    assert await peer.reset(stream) == ErrorCodes.NO_ERROR
    assert channel.closed  # what is still to come of the request would be a part of the next one


async def test_the_control_plane_answers_on_a_stream(world: Any) -> None:
    peer = world.peer()
    stream = peer.h2.get_next_available_stream_id()
    fields = [(":method", "GET"), (":scheme", "https"), (":authority", "tunnels.test"), (":path", "/healthz")]
    peer.h2.send_headers(stream, fields, end_stream=True)
    peer.flush()

    assert await peer.body(stream) == b"hello"
    tunnel = peer.ask()
    (await world.received(b"\r\n\r\n")).say(OK)
    assert await peer.body(tunnel) == b"ok"  # the connection goes on


async def test_a_request_for_a_host_of_another_certificate_is_misdirected(make_world: Any) -> None:
    peer = make_world(Arrival(scheme=b"https", serves=lambda host: host == b"other.test")).peer()
    stream = peer.ask()
    await peer.body(stream)

    assert (b":status", b"421") in peer.heard(ResponseReceived, stream)[0].headers


async def test_each_request_is_taken_for_the_host_it_names(make_world: Any) -> None:
    hosts = ["web-client01.tunnels.test", "other.test", "WEB-client01.tunnels.test", "web-client01.tunnels.test"]
    world = make_world(Arrival(scheme=b"https", serves=lambda host: host != b"other.test"))
    peer = world.peer()
    for number, host in enumerate(hosts):
        stream = peer.h2.get_next_available_stream_id()
        fields = [(":method", "GET"), (":scheme", "https"), (":authority", host), (":path", f"/{number}")]
        peer.h2.send_headers(stream, fields, end_stream=True)
        peer.flush()
        if host != "other.test":
            channel = await world.received(b"/%d " % number)
            assert channel.written.count(b"X-Forwarded-Host: %b\r\n" % host.encode()) == 1
            channel.written = b""
            channel.say(OK)
        await peer.body(stream)

    assert [status for status, _ in world.metrics.finished] == [200, 421, 200, 200]


async def test_an_unknown_tunnel_is_answered_and_the_connection_goes_on(make_world: Any) -> None:
    world = make_world(hsts=b"Strict-Transport-Security: max-age=60\r\n")
    peer = world.peer()
    stream = peer.h2.get_next_available_stream_id()
    fields = [(":method", "GET"), (":scheme", "https"), (":authority", "no.tunnels.test"), (":path", "/")]
    peer.h2.send_headers(stream, fields, end_stream=True)
    peer.flush()
    assert b"No active tunnel" in await peer.body(stream)
    [head] = peer.heard(ResponseReceived, stream)
    assert (b":status", b"502") in head.headers
    assert (b"strict-transport-security", b"max-age=60") in head.headers

    stream = peer.ask()
    (await world.received(b"\r\n\r\n")).say(OK)
    assert await peer.body(stream) == b"ok"
    assert world.metrics.finished == [(502, Outcome.NO_TUNNEL), (200, Outcome.ANSWERED)]


# websockets, RFC 8441


def handshake(peer: Any) -> int:
    stream: int = peer.h2.get_next_available_stream_id()
    peer.h2.send_headers(
        stream,
        [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":authority", "web-client01.tunnels.test"),
            (":path", "/chat"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "forged"),
        ],
    )
    peer.flush()
    return stream


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n"


async def test_a_websocket_is_a_handshake_and_then_bytes_both_ways(world: Any) -> None:
    peer = world.peer()
    assert peer.h2.remote_settings.enable_connect_protocol == 1
    stream = handshake(peer)
    peer.h2.send_data(stream, b"early")
    peer.flush()
    channel = await world.received(b"\r\n\r\n")
    assert channel.written.startswith(b"GET /chat HTTP/1.1\r\n")
    assert channel.written.endswith(b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert b"Sec-WebSocket-Key: " in channel.written and b"forged" not in channel.written
    channel.written = b""

    channel.say(SWITCH + b"Sec-WebSocket-Protocol: chat\r\n\r\nhi")
    [head] = await until(lambda: peer.heard(ResponseReceived, stream))
    assert [tuple(field) for field in head.headers] == [(b":status", b"200"), (b"sec-websocket-protocol", b"chat")]
    assert [event.data for event in await until(lambda: peer.heard(DataReceived, stream))] == [b"hi"]
    assert channel.written == b"early"
    peer.h2.send_data(stream, b"more", end_stream=True)
    peer.flush()
    assert channel.written == b"earlymore" and channel.eof and not channel.closed

    channel.say(b"bye")
    channel.receiver.eof_received()
    assert await peer.body(stream) == b"hibye"
    assert world.metrics.finished == [(101, Outcome.ANSWERED)]


async def test_a_websocket_that_the_service_refuses_is_an_answer(world: Any) -> None:
    peer = world.peer()
    stream = handshake(peer)
    (await world.received(b"\r\n\r\n")).say(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")

    assert await peer.body(stream) == b"no"


async def test_a_websocket_whose_channel_is_lost_ends(world: Any) -> None:
    peer = world.peer()
    stream = handshake(peer)
    channel = await world.received(b"\r\n\r\n")
    channel.say(SWITCH + b"\r\n")
    channel.receiver.eof_received()
    await until(lambda: peer.heard(StreamEnded, stream))
    channel.receiver.connection_lost()

    await until(lambda: world.metrics.finished == [(101, Outcome.ANSWERED)])


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([(":method", "CONNECT"), (":authority", "web-client01.tunnels.test:22")], b"501"),
        (
            [
                (":method", "CONNECT"),
                (":protocol", "connect-udp"),
                (":scheme", "https"),
                (":authority", "web-client01.tunnels.test"),
                (":path", "/"),
            ],
            b"501",
        ),
    ],
)
async def test_connect_for_anything_else_is_refused(world: Any, fields: Any, status: bytes) -> None:
    peer = world.peer()
    stream = peer.h2.get_next_available_stream_id()
    peer.h2.send_headers(stream, fields)
    peer.flush()
    await peer.body(stream)

    assert (b":status", status) in peer.heard(ResponseReceived, stream)[0].headers


# flow control


async def test_an_upload_is_held_back_by_its_service_and_no_other_is(world: Any) -> None:
    peer = world.peer()
    slow = peer.ask(end=False, method="POST", path="/slow")
    channel = await world.received(b"\r\n\r\n")
    channel.receiver.pause_writing()
    sent = 0
    while (room := min(peer.h2.local_flow_control_window(slow), FRAME)) > 0:
        peer.h2.send_data(slow, bytes(room))
        sent += room
        peer.flush()
        peer.listen()
    assert sent == STREAM_WINDOW

    quick = peer.ask(end=False, method="POST", path="/quick")
    await world.received(b"\r\n\r\n", 1)
    for _ in range(400):  # more than the connection's window
        await until(lambda: peer.listen() and peer.h2.local_flow_control_window(quick) >= FRAME)
        peer.h2.send_data(quick, bytes(FRAME))
        peer.flush()
    assert peer.h2.local_flow_control_window(quick) <= LARGEST_WINDOW

    channel.receiver.resume_writing()
    await until(lambda: peer.heard(WindowUpdated, slow))
    assert peer.h2.local_flow_control_window(slow) > 0


async def test_padding_counts_and_is_given_back(world: Any) -> None:
    peer = world.peer()
    stream = peer.ask(end=False, method="POST")
    await world.received(b"\r\n\r\n")
    for _ in range(500):
        await until(lambda: peer.listen() and peer.h2.local_flow_control_window(stream) >= 556)
        peer.h2.send_data(stream, b"x" * 300, pad_length=255)
        peer.flush()

    await until(lambda: world.client.channels[0].written.count(b"x" * 300) == 500)


async def test_a_download_keeps_no_more_than_its_share_and_goes_on_when_the_window_opens(world: Any) -> None:
    peer = world.peer({SettingCodes.INITIAL_WINDOW_SIZE: 1})
    stream = peer.ask()
    channel = await world.received(b"\r\n\r\n")
    size = 4 * ANSWERS
    channel.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    said = 0
    while not channel.paused:
        channel.say(bytes(32 * 1024))
        said += 32 * 1024
        await asyncio.sleep(0)
    assert said <= ANSWERS
    assert len(b"".join(event.data for event in peer.heard(DataReceived, stream))) <= 1

    peer.h2.increment_flow_control_window(1 << 28, stream)
    peer.h2.increment_flow_control_window(1 << 28)
    peer.flush()
    while said < size:
        await until(lambda: not channel.paused)
        channel.say(bytes(32 * 1024))
        said += 32 * 1024
    assert len(await peer.body(stream)) == size


async def test_a_small_answer_passes_beside_a_download(world: Any) -> None:
    peer = world.peer()
    peer.h2.increment_flow_control_window(1 << 28)
    large = peer.ask(path="/large")
    channel = await world.received(b"\r\n\r\n")
    peer.h2.increment_flow_control_window(1 << 28, large)
    small = peer.ask(path="/small")
    other = await world.received(b"\r\n\r\n", 1)
    channel.say(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + bytes(900_000))
    other.say(OK)
    await until(lambda: peer.heard(StreamEnded, small))

    assert sum(len(event.data) for event in peer.heard(DataReceived, large)) < 900_000 or peer.events.index(
        peer.heard(StreamEnded, small)[0]
    ) < peer.events.index(peer.heard(DataReceived, large)[-1])


async def test_a_visitor_who_takes_nothing_is_written_nothing(world: Any) -> None:
    peer = world.peer()
    stream = peer.ask()
    channel = await world.received(b"\r\n\r\n")
    peer.server.pause_writing()
    channel.say(OK)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not peer.heard(ResponseReceived, stream)

    peer.server.resume_writing()
    assert await peer.body(stream) == b"ok"


# time limits, and the end


async def test_a_service_that_says_nothing_is_answered_for(world: Any) -> None:
    peer = world.peer()
    stream = peer.ask()
    await world.received(b"\r\n\r\n")
    peer.wait_long()
    await peer.body(stream)

    assert (b":status", b"504") in peer.heard(ResponseReceived, stream)[0].headers


async def test_a_body_that_stops_coming_is_refused(world: Any) -> None:
    peer = world.peer()
    stream = peer.ask(end=False, method="POST")
    await world.received(b"\r\n\r\n")
    peer.wait_long()
    await peer.body(stream)

    assert (b":status", b"408") in peer.heard(ResponseReceived, stream)[0].headers
    assert await peer.reset(stream) == ErrorCodes.NO_ERROR


async def test_an_answer_that_its_visitor_does_not_take_is_cut_off(world: Any) -> None:
    peer = world.peer({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    stream = peer.ask()
    channel = await world.received(b"\r\n\r\n")
    channel.say(OK)
    await until(lambda: peer.heard(ResponseReceived, stream))
    peer.wait_long()  # bytes moved since it was set
    peer.wait_long()

    assert await peer.reset(stream) == ErrorCodes.CANCEL
    assert world.metrics.finished == [(200, Outcome.ABORTED)]


async def test_a_connection_without_streams_is_closed_in_time(world: Any) -> None:
    peer = world.peer()
    peer.wait_long()

    assert await peer.goaway() == ErrorCodes.NO_ERROR
    assert peer.tls.eof


async def test_a_stop_lets_streams_finish_and_takes_no_new_ones(world: Any) -> None:
    peer = world.peer()
    stream = peer.ask()
    channel = await world.received(b"\r\n\r\n")
    assert peer.server.server_stops() and peer.server.server_stops()
    raw, peer.tls.sent = peer.tls.sent, b""
    assert raw.count(bytes.fromhex("000008 07 00 00000000 00000001 00000000")) == 1  # GOAWAY: stream 1 is the last
    late = peer.ask()
    assert await peer.reset(late) == ErrorCodes.REFUSED_STREAM

    channel.say(OK)
    assert await peer.body(stream) == b"ok"
    assert not peer.server.server_stops()
    assert peer.tls.eof


async def test_a_visitor_that_is_gone_leaves_nothing_behind(world: Any) -> None:
    peer = world.peer()
    peer.ask()
    channel = await world.received(b"\r\n\r\n")
    peer.server.connection_lost(None)

    assert channel.closed
    assert world.metrics.connected == 0
    assert world.metrics.finished == [(0, Outcome.ABORTED)]
    assert not peer.heard(StreamReset)
