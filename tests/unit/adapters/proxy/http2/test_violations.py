"""What RFC 9113 forbids, frame by frame, and what becomes of it: the stream ends, or the connection."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, PingAckReceived, ResponseReceived, StreamReset
from hpack import Encoder
from rig import until

from tunnel_server.domain.metrics import Outcome

PROTOCOL, FLOW, CLOSED, SIZE = (
    ErrorCodes.PROTOCOL_ERROR,
    ErrorCodes.FLOW_CONTROL_ERROR,
    ErrorCodes.STREAM_CLOSED,
    ErrorCodes.FRAME_SIZE_ERROR,
)
COMPRESSION, CALM, REFUSED = ErrorCodes.COMPRESSION_ERROR, ErrorCodes.ENHANCE_YOUR_CALM, ErrorCodes.REFUSED_STREAM
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, WITH_PRIORITY = 1, 4, 8, 32

HOST = b"web-client01.tunnels.test"
GET = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", HOST), (b":path", b"/")]
POST = [(b":method", b"POST"), *GET[1:]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">HBBBL", len(payload) >> 8, len(payload) & 255, kind, flags, stream) + payload


def block(*fields: tuple[bytes, bytes]) -> bytes:
    """Return a field block that leaves the table alone, so that h2's client may go on with its own."""
    return Encoder().encode([(name, value, True) for name, value in fields])


def headers(*fields: tuple[bytes, bytes], stream: int = 1, flags: int = END_STREAM | END_HEADERS) -> bytes:
    return frame(HEADERS, flags, stream, block(*fields))


OPEN = headers(*POST, flags=END_HEADERS)  # stream 1, with a body to come
ASKED = headers(*GET)  # stream 1, half-closed

# What ends the connection, and its code.
CONNECTION_ERRORS = {
    "4.1 a frame with the wrong preface": (b"GET / HTTP/1.1\r\n\r\n", PROTOCOL),
    "4.2 a frame longer than SETTINGS_MAX_FRAME_SIZE": (frame(PING, 0, 0, bytes(16385)), SIZE),
    "4.3 a field block that is cut short": (frame(HEADERS, 5, 1, b"\x40\x7f\x01"), COMPRESSION),
    "4.3 an index that is not in the table": (frame(HEADERS, 5, 1, b"\xff\x20"), COMPRESSION),
    "4.3 a table larger than we have": (frame(HEADERS, 5, 1, b"\x3f\xe2\x1f\x82"), COMPRESSION),
    "4.3 a block interrupted by another frame": (
        frame(HEADERS, END_STREAM, 1, block(*GET)) + frame(PING, 0, 0, bytes(8)), PROTOCOL),
    "4.3 a block interrupted by another stream's": (
        frame(HEADERS, END_STREAM, 1, block(*GET)) + headers(*GET, stream=3), PROTOCOL),
    "5.1 DATA on an idle stream": (frame(DATA, 1, 1, b"x"), PROTOCOL),
    "5.1 RST_STREAM on an idle stream": (frame(RST, 0, 1, bytes(4)), PROTOCOL),
    "5.1 WINDOW_UPDATE on an idle stream": (frame(WINDOW, 0, 1, b"\0\0\0\1"), PROTOCOL),
    "5.1 CONTINUATION on an idle stream": (frame(CONTINUATION, 4, 1, block(*GET)), PROTOCOL),
    "5.1.1 HEADERS on an even stream": (headers(*GET, stream=2), PROTOCOL),
    "5.1.1 HEADERS on a lower stream": (headers(*GET, stream=5) + headers(*GET, stream=3), PROTOCOL),
    "5.5 an unknown frame within a field block": (
        frame(HEADERS, END_STREAM, 1, block(*GET)) + frame(0x16, 0, 0, b"?"), PROTOCOL),
    "6.1 DATA on stream 0": (frame(DATA, 1, 0, b"x"), PROTOCOL),
    "6.1 DATA whose padding is as long as it": (OPEN + frame(DATA, PADDED | 1, 1, b"\x05abcd"), PROTOCOL),
    "6.2 HEADERS on stream 0": (headers(*GET, stream=0), PROTOCOL),
    "6.2 HEADERS whose padding is too long": (frame(HEADERS, PADDED | 5, 1, b"\xff" + block(*GET)), PROTOCOL),
    "6.3 PRIORITY on stream 0": (frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL),
    "6.4 RST_STREAM on stream 0": (frame(RST, 0, 0, bytes(4)), PROTOCOL),
    "6.4 RST_STREAM of a wrong size": (OPEN + frame(RST, 0, 1, bytes(3)), SIZE),
    "6.5 SETTINGS on a stream": (frame(SETTINGS, 0, 1), PROTOCOL),
    "6.5 SETTINGS of a wrong size": (frame(SETTINGS, 0, 0, bytes(5)), SIZE),
    "6.5 SETTINGS ACK with a payload": (frame(SETTINGS, 1, 0, bytes(6)), SIZE),
    "6.5.2 SETTINGS_ENABLE_PUSH that is no boolean": (frame(SETTINGS, 0, 0, b"\0\2\0\0\0\2"), PROTOCOL),
    "6.5.2 SETTINGS_INITIAL_WINDOW_SIZE too large": (frame(SETTINGS, 0, 0, b"\0\4\x80\0\0\0"), FLOW),
    "6.5.2 SETTINGS_MAX_FRAME_SIZE too small": (frame(SETTINGS, 0, 0, b"\0\5\0\0\x3f\xff"), PROTOCOL),
    "6.5.2 SETTINGS_MAX_FRAME_SIZE too large": (frame(SETTINGS, 0, 0, b"\0\5\x01\0\0\0"), PROTOCOL),
    "6.6 PUSH_PROMISE": (OPEN + frame(PUSH, 4, 1, b"\0\0\0\2" + block(*GET)), PROTOCOL),
    "6.7 PING on a stream": (frame(PING, 0, 1, bytes(8)), PROTOCOL),
    "6.7 PING of a wrong size": (frame(PING, 0, 0, bytes(6)), SIZE),
    "6.8 GOAWAY on a stream": (frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL),
    "6.8 GOAWAY of a wrong size": (frame(GOAWAY, 0, 0, bytes(7)), SIZE),
    "6.9 WINDOW_UPDATE of a wrong size": (frame(WINDOW, 0, 0, bytes(3)), SIZE),
    "6.9 WINDOW_UPDATE of nothing": (frame(WINDOW, 0, 0, bytes(4)), PROTOCOL),
    "6.9.1 a connection's window too large": (frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff"), FLOW),
    "6.9.1 more DATA than a stream's window": (OPEN + frame(DATA, 0, 1, bytes(16384)) * 5, FLOW),
    "6.10 CONTINUATION after the end of a block": (ASKED + frame(CONTINUATION, 4, 1, b""), PROTOCOL),
    "6.10 CONTINUATION on stream 0": (
        frame(HEADERS, END_STREAM, 1, block(*GET)) + frame(CONTINUATION, 4, 0, b""), PROTOCOL),
}  # fmt: skip

# What ends stream 1 only.
STREAM_ERRORS = {
    "5.1 DATA on a half-closed stream": (ASKED + frame(DATA, 1, 1, b"x"), CLOSED),
    "5.1 HEADERS on a half-closed stream": (ASKED + headers(*GET), CLOSED),
    "6.9 WINDOW_UPDATE of nothing": (OPEN + frame(WINDOW, 0, 1, bytes(4)), PROTOCOL),
    "6.9.1 a stream's window too large": (OPEN + frame(WINDOW, 0, 1, b"\x7f\xff\xff\xff"), FLOW),
    "6.3 PRIORITY of a wrong size": (OPEN + frame(PRIORITY, 0, 1, bytes(4)), SIZE),
    "8.1 trailers that do not end the stream": (OPEN + headers((b"x", b"1"), flags=END_HEADERS), PROTOCOL),
    "8.1 a pseudo-field in trailers": (OPEN + headers((b":path", b"/")), PROTOCOL),
    "8.1.1 less DATA than the content-length": (
        headers(*POST, (b"content-length", b"5"), flags=4) + frame(DATA, 1, 1, b"four"), PROTOCOL),
    "8.1.1 more DATA than the content-length": (
        headers(*POST, (b"content-length", b"5"), flags=4) + frame(DATA, 0, 1, b"sixsix"), PROTOCOL),
    "8.1.1 a content-length and no DATA": (headers(*POST, (b"content-length", b"5")), PROTOCOL),
    "8.1.1 several content-lengths": (
        headers(*POST, (b"content-length", b"5"), (b"content-length", b"5"), flags=4), PROTOCOL),
    "8.1.1 several content-lengths, the first of nothing": (
        headers(*POST, (b"content-length", b"0"), (b"content-length", b"5"), flags=4), PROTOCOL),
    "8.1.1 several content-lengths and no DATA": (
        headers(*POST, (b"content-length", b"0"), (b"content-length", b"0")), PROTOCOL),
    "8.1.1 a content-length that is none": (headers(*POST, (b"content-length", b"+5"), flags=4), PROTOCOL),
    "8.2 a name in upper case": (headers(*GET, (b"X-Up", b"1")), PROTOCOL),
    "8.2 a name with a space": (headers(*GET, (b"x up", b"1")), PROTOCOL),
    "8.2 a name with a colon": (headers(*GET, (b"x:up", b"1")), PROTOCOL),
    "8.2 an empty name": (headers(*GET, (b"", b"1")), PROTOCOL),
    "8.2 a value with a line feed": (headers(*GET, (b"x", b"1\r\nhost: evil")), PROTOCOL),
    "8.2 a value with NUL": (headers(*GET, (b"x", b"1\0")), PROTOCOL),
    "8.2 a value that begins with a space": (headers(*GET, (b"x", b" 1")), PROTOCOL),
    "8.2.2 connection": (headers(*GET, (b"connection", b"keep-alive")), PROTOCOL),
    "8.2.2 transfer-encoding": (headers(*POST, (b"transfer-encoding", b"chunked"), flags=4), PROTOCOL),
    "8.2.2 upgrade": (headers(*GET, (b"upgrade", b"websocket")), PROTOCOL),
    "8.2.2 te other than trailers": (headers(*GET, (b"te", b"trailers, deflate")), PROTOCOL),
    "8.3 an unknown pseudo-field": (headers(*GET, (b":x", b"1")), PROTOCOL),
    "8.3 a pseudo-field of answers": (headers(*GET, (b":status", b"200")), PROTOCOL),
    "8.3 a pseudo-field behind others": (headers(*GET[:3], (b"x", b"1"), GET[3]), PROTOCOL),
    "8.3 a repeated pseudo-field": (headers(*GET, (b":path", b"/")), PROTOCOL),
    "8.3.1 no :method": (headers(*GET[1:]), PROTOCOL),
    "8.3.1 no :scheme": (headers(GET[0], *GET[2:]), PROTOCOL),
    "8.3.1 no :path": (headers(*GET[:3]), PROTOCOL),
    "8.3.1 an empty :path": (headers(*GET[:3], (b":path", b"")), PROTOCOL),
    "8.3.1 a :path that is no path": (headers(*GET[:3], (b":path", b"x")), PROTOCOL),
    "8.3.1 a :path with a space": (headers(*GET[:3], (b":path", b"/ HTTP/1.1")), PROTOCOL),
    "8.3.1 neither :authority nor host": (headers(*GET[:2], GET[3]), PROTOCOL),
    "8.3.1 a host other than the :authority": (headers(*GET, (b"host", b"other.test")), PROTOCOL),
    "8.3.1 a method that is no token": (headers((b":method", b"GE T"), *GET[1:]), PROTOCOL),
    "8.5 CONNECT with a :path": (headers((b":method", b"CONNECT"), *GET[2:]), PROTOCOL),
    "RFC 8441 :protocol without CONNECT": (headers(*GET, (b":protocol", b"websocket")), PROTOCOL),
}  # fmt: skip

# What is let pass.
NO_ERRORS = {
    "4.1 an unknown frame": frame(0x16, 0xFF, 7, b"?"),
    "5.3 PRIORITY on an idle stream": frame(PRIORITY, 0, 9, bytes(5)),
    "5.3 a stream that depends on itself": frame(PRIORITY, 0, 9, b"\0\0\0\x09\0"),
    "6.5 an unknown setting": frame(SETTINGS, 0, 0, b"\xee\xee\0\0\0\1"),
    "6.7 a PING nobody asked for": frame(PING, 1, 0, bytes(8)),
    "6.9 the largest window": frame(WINDOW, 0, 0, b"\x7f\xff\0\0"),
}


async def test_a_connection_error_ends_the_connection_with_its_code(world: Any) -> None:
    for name, (raw, code) in CONNECTION_ERRORS.items():
        peer = world.peer()
        if name.startswith("4.1"):
            peer = Raw(world)
            peer.raw(raw)
            assert peer.goaway() == code, name
            continue
        peer.raw(raw)

        assert await peer.goaway() == code, name
        assert peer.tls.eof, name


class Raw:
    """A connection of which nothing came yet."""

    def __init__(self, world: Any) -> None:
        peer = world.peer()
        self.tls = peer.tls
        self.server = type(peer.server)(world.relay, world.arrival)
        self.tls.sent = b""
        self.server.connection_made(self.tls)

    def raw(self, data: bytes) -> None:
        self.server.data_received(data)

    def goaway(self) -> int:
        at = self.tls.sent.index(bytes.fromhex("000008070000000000"))
        return int.from_bytes(self.tls.sent[at + 13 : at + 17])


@pytest.mark.parametrize("name", STREAM_ERRORS)
async def test_a_stream_error_ends_its_stream_and_no_other(world: Any, name: str) -> None:
    raw, code = STREAM_ERRORS[name]
    peer = world.peer()
    peer.h2.send_headers(1, POST)  # the client has to know of the stream
    peer.h2.data_to_send()
    peer.h2.encoder = Encoder()
    peer.raw(raw)

    assert await peer.reset(1) == code
    stream = peer.ask(path="/next")
    channel = (await until(lambda: [c for c in world.client.channels if b"/next" in c.written]))[0]
    channel.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert await peer.body(stream) == b"ok"
    assert not peer.heard(ConnectionTerminated)


@pytest.mark.parametrize("name", NO_ERRORS)
async def test_what_says_nothing_to_us_is_let_pass(world: Any, name: str) -> None:
    peer = world.peer()
    peer.raw(NO_ERRORS[name])
    peer.h2.ping(b"12345678")
    peer.flush()

    assert peer.heard(PingAckReceived)
    assert not peer.heard(ConnectionTerminated) and not peer.heard(StreamReset)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([*GET, *[(b"x-%d" % n, b"1") for n in range(101)]], b"431"),
        ([*GET, (b"x", b"1" * 40_000), (b"y", b"1" * 40_000)], b"431"),
        ([*GET[:2], (b":authority", b"user@web-client01.tunnels.test"), GET[3]], b"400"),
        ([GET[0], (b":scheme", b"ftp"), *GET[2:]], b"400"),
        ([*POST, (b"expect", b"the-best")], b"417"),
    ],
)
async def test_a_request_that_is_not_served_is_answered(world: Any, fields: Any, status: bytes) -> None:
    peer = world.peer()
    peer.h2.send_headers(1, fields, end_stream=True)
    peer.flush()
    await peer.body(1)

    assert (b":status", status) in peer.heard(ResponseReceived, 1)[0].headers
    assert world.metrics.finished == [(int(status), Outcome.BAD_REQUEST)]


async def test_settings_have_to_come_first(world: Any) -> None:
    peer = Raw(world)
    peer.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(PING, 0, 0, bytes(8)))

    assert peer.goaway() == PROTOCOL


async def test_a_preface_may_come_octet_by_octet(world: Any) -> None:
    peer = Raw(world)
    for octet in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0) + frame(PING, 0, 0, b"12345678"):
        peer.raw(bytes([octet]))

    assert peer.tls.sent.endswith(frame(PING, 1, 0, b"12345678"))


async def test_a_visitor_that_leaves_may_still_take_its_answers(world: Any) -> None:
    peer = world.peer()
    stream = peer.ask()
    channel = await world.received(b"\r\n\r\n")
    peer.raw(frame(GOAWAY, 0, 0, bytes(8)))
    channel.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    assert await peer.body(stream) == b"ok"
    await until(lambda: peer.tls.eof)
