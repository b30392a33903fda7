"""Visitors who ask too much: what they get, and that it is bounded."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, PingAckReceived, ResponseReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes
from rig import until

from tunnel_server.adapters.proxy.http2 import connection
from tunnel_server.adapters.proxy.http2.limits import IDLE_FRAMES, MAX_STREAMS, RESETS, UNTAKEN

CALM = ErrorCodes.ENHANCE_YOUR_CALM
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">HBBBL", len(payload) >> 8, len(payload) & 255, kind, flags, stream) + payload


async def feed(peer: Any, raw: bytes, times: int) -> None:
    """Send ``raw`` again and again, as fast as it is read."""
    for _ in range(times):
        if peer.tls.eof:
            return
        await until(lambda: peer.tls.reading or peer.tls.eof)
        if not peer.tls.eof:
            peer.raw(raw)


IDLE = {
    "PING": frame(6, 0, 0, bytes(8)),
    "SETTINGS": frame(4, 0, 0),
    "PRIORITY": frame(2, 0, 1, bytes(5)),
    "WINDOW_UPDATE": frame(8, 0, 0, b"\0\0\0\1"),
    "WINDOW_UPDATE of a stream": frame(8, 0, 1, b"\0\0\0\1"),
    "unknown": frame(0x42, 0, 0),
    "empty DATA": frame(0, 0, 1),
    "padded empty DATA": frame(0, 8, 1, b"\x05" + bytes(5)),
}


@pytest.mark.parametrize("kind", IDLE)
async def test_a_flood_of_frames_that_move_nothing_ends_the_connection(world: Any, kind: str) -> None:
    peer = world.peer()
    peer.ask(end=False, method="POST")
    await feed(peer, IDLE[kind] * 100, 2 * IDLE_FRAMES[0] // 100)

    assert await peer.goaway() == CALM


async def test_rapid_resets_end_the_connection(world: Any) -> None:
    peer = world.peer()
    for _ in range(2 * RESETS[0]):
        if peer.tls.eof:
            break
        stream = peer.ask()
        peer.h2.reset_stream(stream, ErrorCodes.CANCEL)
        peer.flush()

    assert await peer.goaway() == CALM
    assert world.client.asked <= MAX_STREAMS


async def test_resets_that_the_server_is_made_to_send_count_as_well(world: Any) -> None:
    peer = world.peer()
    for _ in range(2 * RESETS[0]):
        if peer.tls.eof:
            break
        stream = peer.ask()
        peer.raw(frame(8, 0, stream, bytes(4)))
        peer.listen()

    assert await peer.goaway() == CALM


async def test_streams_that_were_reset_count_until_their_channel_is_there(world: Any) -> None:
    world.client.open.clear()
    peer = world.peer()
    for _ in range(MAX_STREAMS):
        stream = peer.ask()
        peer.h2.reset_stream(stream, ErrorCodes.CANCEL)
        peer.flush()
    await until(lambda: world.client.asked)
    assert await peer.reset(peer.ask()) == ErrorCodes.REFUSED_STREAM

    world.client.open.set()
    await world.channel(world.client.asked - 1)
    await until(lambda: not peer.server._coming)
    stream = peer.ask()
    await until(lambda: any(b"GET" in channel.written for channel in world.client.channels))
    [channel] = [channel for channel in world.client.channels if b"GET" in channel.written]
    channel.say(OK)
    assert await peer.body(stream) == b"ok"


async def test_one_stream_too_many_is_refused_and_the_others_go_on(world: Any) -> None:
    peer = world.peer()
    peer.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 1000
    peer.h2.remote_settings.acknowledge()
    streams = [peer.ask() for _ in range(MAX_STREAMS)]
    assert await peer.reset(peer.ask()) == ErrorCodes.REFUSED_STREAM

    channel = await world.received(b"\r\n\r\n")
    channel.say(OK)
    await until(lambda: peer.heard(StreamEnded))
    assert peer.heard(StreamEnded)[0].stream_id in streams


async def test_a_flood_of_continuations_ends_the_connection(world: Any) -> None:
    for size, times in ((16_384, 8), (1, 100), (0, 100)):
        peer = world.peer()
        peer.raw(frame(1, 1, 1, b"\x82"))
        for _ in range(times):
            if not peer.tls.eof:
                peer.raw(frame(9, 0, 1, bytes(size)))

        assert await peer.goaway() == CALM


async def test_a_bomb_of_fields_ends_the_connection(world: Any) -> None:
    peer = world.peer()
    peer.raw(frame(1, 5, 1, b"\x40\x01a\x7f\xff\x1d" + b"b" * 3966 + b"\xbe" * 12_000))

    assert await peer.goaway() == CALM


async def test_a_block_that_does_not_end_in_time_ends_the_connection(world: Any) -> None:
    peer = world.peer()
    stream = peer.ask(end=False, method="POST")
    await world.received(b"\r\n\r\n")
    peer.raw(frame(1, 1, 3, b"\x82"))
    peer.server.timed_out(asyncio.get_running_loop().time() + world.relay.limits.head_timeout + 1)

    assert await peer.goaway() == ErrorCodes.NO_ERROR
    assert not peer.heard(ResponseReceived, stream)


async def test_many_frames_take_turns_with_others(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TURN", 0.002)
    peer = world.peer()
    stream = peer.ask(end=False, method="POST")
    await world.received(b"\r\n\r\n")
    peer.raw(frame(0, 0, stream, b"x") * 6000)  # longer than a turn on any machine
    channel = await world.channel()
    assert not peer.tls.reading
    assert channel.written.count(b"x") < 6000

    await until(lambda: peer.tls.reading)
    assert channel.written.count(b"x") == 6000


async def test_those_who_took_long_wait_for_each_other(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = [world.peer() for _ in range(3)]
    quick = world.peer()
    monkeypatch.setattr(connection, "TURN", 0.0)  # whatever takes any time takes long
    for peer in slow:
        peer.raw(frame(6, 0, 0, bytes(8)))
    monkeypatch.setattr(connection, "TURN", 1e-9)
    await until(lambda: not any(peer.server._turn_due for peer in slow))
    quick.server._took = 0.0

    for peer in (*slow, quick):
        peer.tls.sent = b""
        peer.raw(frame(6, 0, 0, b"together"))
    assert [bool(peer.tls.sent) for peer in (*slow, quick)] == [False, False, False, True]

    answered = []
    for _ in range(3):
        await asyncio.sleep(0)
        answered.append(sum(bool(peer.tls.sent) for peer in slow))
    assert answered == [1, 2, 3]


async def test_pieces_of_a_body_that_come_together_reach_the_service_as_one(world: Any) -> None:
    peer = world.peer()
    stream = peer.ask(end=False, method="POST")
    channel = await world.received(b"\r\n\r\n")
    channel.written = b""
    peer.raw(frame(0, 0, stream, b"x") * 1000 + frame(0, 8, stream, b"\x05y" + bytes(5)) + frame(0, 1, stream))

    assert channel.written == b"3e9\r\n" + b"x" * 1000 + b"y\r\n0\r\n\r\n"
    assert channel.writes == 2  # the head, and that


async def test_a_request_with_too_much_huffman_coding_is_answered_and_the_connection_ends(world: Any) -> None:
    peer = world.peer()
    peer.ask(path="/other")
    channel = await world.received(b"\r\n\r\n")
    dear = peer.ask(("x-a", "0" * 40_000), ("x-b", "0" * 20_000))
    await peer.body(dear)
    assert (b":status", b"431") in peer.heard(ResponseReceived, dear)[0].headers
    assert b"/other" in channel.written

    assert peer.heard(ConnectionTerminated)[0].error_code == ErrorCodes.NO_ERROR

    channel.say(OK)
    await until(lambda: peer.tls.eof)
    assert b"ok" in peer.tls.sent  # of the other stream; h2's client reads nothing behind a GOAWAY
    assert sorted(status for status, _ in world.metrics.finished) == [200, 431]


async def test_streams_that_have_ended_are_not_kept(world: Any) -> None:
    peer = world.peer()
    for number in range(300):
        stream = peer.ask()
        channel = await world.channel()
        await until(lambda: channel.written.count(b"GET") > number)  # noqa: B023
        channel.say(OK)
        await until(lambda: peer.heard(StreamEnded, stream))  # noqa: B023

    assert len(peer.server._engine._h2.streams) < MAX_STREAMS


async def test_windows_opened_octet_by_octet_end_the_connection(world: Any) -> None:
    peer = world.peer({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    stream = peer.ask()
    channel = await world.received(b"\r\n\r\n")
    channel.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000))
    for _ in range(3 * IDLE_FRAMES[0]):
        if peer.tls.eof:
            break
        peer.raw(frame(8, 0, stream, b"\0\0\0\1"))
        await asyncio.sleep(0)

    assert peer.tls.eof


async def test_a_visitor_who_takes_nothing_is_read_no_more(world: Any) -> None:
    peer = world.peer()
    peer.server.pause_writing()
    peer.tls.size = UNTAKEN + 1
    peer.raw(frame(6, 0, 0, bytes(8)))
    assert not peer.tls.reading

    peer.tls.size = 0
    peer.server.resume_writing()
    assert peer.tls.reading
    assert peer.heard(PingAckReceived)


async def test_settings_nobody_knows_are_not_kept(world: Any) -> None:
    peer = world.peer()
    for page in range(10):
        peer.raw(frame(4, 0, 0, b"".join(struct.pack(">HL", 256 + 50 * page + n, 1) for n in range(50))))

    assert len(peer.server._engine._h2.remote_settings) < 10
    assert not peer.heard(ConnectionTerminated)


async def test_data_for_streams_that_are_gone_costs_as_frames_that_move_nothing(world: Any) -> None:
    peer = world.peer()
    stream = peer.ask(end=False, method="POST")
    peer.h2.reset_stream(stream, ErrorCodes.CANCEL)
    peer.flush()
    await feed(peer, frame(0, 0, stream, b"x") * 100, 2 * IDLE_FRAMES[0] // 100)

    assert await peer.goaway() == CALM
    assert not peer.heard(StreamReset, stream + 2)
