"""Frames in any order, with any contents, services that answer anything in between: never an error of our own."""

from __future__ import annotations

import asyncio
import random
import struct
from typing import Any

import pytest
from h2.errors import ErrorCodes
from hpack import Encoder
from structlog.testing import capture_logs

from tunnel_server.adapters.proxy.http2.limits import SPARE_WINDOW

HEAD = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"web-client01.tunnels.test"), (b":path", b"/")]
SOCKET = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *HEAD[1:]]
TRAILERS = [(b"x-sum", b"1")]
BLOCKS = [Encoder().encode([(*field, True) for field in fields]) for fields in (HEAD, HEAD, SOCKET, TRAILERS)]
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nraw",
    b"HTTP/1.1 103 Hints\r\n\r\n",
    b"HTTP/1.1 204 No\r\n\r\n",
    b"nonsense\r\n\r\n",
    b"more",
]


class Visitor:
    """Sends frames that are legal more often than not, so that a connection lives for a while."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._next = 1

    def frame(self) -> bytes:
        """Return one frame, or a block and what continues it."""
        chance = self._chance
        stream = chance.randrange(1, self._next + 1) | 1 if self._next > 1 else 1
        stream = min(stream, max(1, self._next - 2))
        match 1 if self._next == 1 else chance.choice([0, 0, 0, 0, 1, 1, 1, 2, 3, 4, 6, 7, 8, 8, 0x16, -1]):
            case 0:
                padded = chance.random() < 0.2
                payload = bytes(chance.choice([0, 1, 5, 300, 5000]))
                flags = chance.choice([0, 0, 1]) | (8 if padded else 0)
                return frame(0, flags, stream, b"\2" + payload + b"\0\0" if padded else payload)
            case 1:
                if chance.random() < 0.2 and self._next > 1:
                    return frame(1, chance.choice([4, 5, 5]), stream, chance.choice(BLOCKS))
                return self._request()
            case 2:
                return frame(2, 0, stream, bytes(5))
            case 3:
                return frame(3, 0, stream, bytes(4))
            case 4:
                return frame(4, 0, 0, struct.pack(">HL", 4, chance.choice([0, 1, 20_000, 1 << 20])))
            case 6:
                return frame(6, chance.choice([0, 1]), 0, bytes(8))
            case 7:
                return frame(7, 0, 0, bytes(8)) if chance.random() < 0.02 else b""
            case 8:
                octets = struct.pack(">L", chance.choice([1, 1, 70_000, 70_000, 0 if stream else 1, 0x7FFFFFFF]))
                return frame(8, 0, stream, octets) if chance.random() < 0.5 else frame(8, 0, 0, b"\0\0\xff\0")
            case -1 if chance.random() < 0.05:
                return frame(chance.randrange(12), chance.randrange(256), stream, chance.randbytes(9))
            case _:
                return frame(0x16, 0, 0)

    def _request(self) -> bytes:
        stream, self._next = self._next, self._next + 2
        block = self._chance.choice(BLOCKS)
        if self._chance.random() < 0.2:
            return frame(1, 0, stream, block[:9]) + frame(9, 4, stream, block[9:])
        return frame(1, self._chance.choice([4, 5]), stream, block)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">HBBBL", len(payload) >> 8, len(payload) & 255, kind, flags, stream) + payload


def service(world: Any, chance: random.Random) -> None:
    """Let one of the channels do something."""
    channels = [channel for channel in world.client.channels if not channel.closed]
    if not channels:
        return
    channel = chance.choice(channels)
    match chance.randrange(6):
        case 0:
            channel.receiver.eof_received()
        case 1:
            channel.closed = True
            channel.receiver.connection_lost()
        case 2:
            channel.receiver.pause_writing()
            channel.receiver.resume_writing()
        case _:
            channel.say(chance.choice(ANSWERS))


@pytest.mark.parametrize("seed", range(40))
async def test_no_sequence_of_frames_is_an_error_of_ours(world: Any, seed: int) -> None:
    chance = random.Random(seed)
    with capture_logs() as logs:
        for _ in range(10):
            peer = world.peer()
            visitor = Visitor(chance)
            for _ in range(150):
                if peer.tls.eof or peer.tls.closed:
                    break
                peer.raw(visitor.frame())
                if chance.random() < 0.3:
                    await asyncio.sleep(0)
                if chance.random() < 0.3:
                    service(world, chance)
                if chance.random() < 0.01:
                    peer.wait_long()
                if chance.random() < 0.005:
                    peer.server.server_stops()
            assert struct.pack(">L", ErrorCodes.INTERNAL_ERROR) not in peer.tls.sent[-8:-4]
            peer.server.connection_lost(None)
            assert not peer.server.streams and not peer.server.sender.waiting
            assert peer.server.spare.left == SPARE_WINDOW
        for channel in world.client.channels:
            if not channel.closed:
                channel.receiver.connection_lost()

    assert not [entry for entry in logs if entry["log_level"] == "error"]
    assert world.metrics.connected == 0
    assert len(set(world.metrics.finished)) > 3  # it came as far as to exchanges
