"""The TLS transport against Python's own TLS client, byte by byte."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from certs import Pair, make_pair
from fakes.wire import FakeWire
from rig import until

from tunnel_server.adapters.tls import transport as module
from tunnel_server.adapters.tls.transport import TlsTransport

RECORD = 16 * 1024


class Inside(asyncio.Protocol):
    """Records what a protocol inside TLS hears."""

    def __init__(self, *, half_open: bool = False) -> None:
        self.pieces: list[bytes] = []
        self.events: list[str] = []
        self._half_open = half_open

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)

    def eof_received(self) -> bool:
        self.events.append("eof")
        return self._half_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)


class Peer:
    """A TLS client and the server's transport, joined by hand."""

    def __init__(self, pair: Pair, version: ssl.TLSVersion, inside: Inside) -> None:
        server, client = pair.server_context(), pair.client_context()
        client.minimum_version = client.maximum_version = version
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client.wrap_bio(self.incoming, self.outgoing, server_hostname="tunnels.test")
        self.wire = FakeWire()
        accepted = TlsTransport.accept(
            self.wire, lambda i, o: server.wrap_bio(i, o, server_side=True), ("203.0.113.9", 7)
        )
        assert accepted is not None
        self.transport = accepted
        self.inside = inside
        self.transport.ready = lambda: None
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            else:
                break
            self.send()
            self.transport.handshake()
            self.take()
        self.send()
        assert self.transport.handshake()
        self.transport.start(inside)
        self.take()

    def send(self, size: int = -1) -> None:
        """Let the server have what the client has written."""
        if data := self.outgoing.read(size):
            self.transport.data_received(data)

    def take(self) -> None:
        """Let the client have what the server has written."""
        self.incoming.write(b"".join(self.wire.written))
        self.wire.written.clear()

    def say(self, data: bytes) -> None:
        for at in range(0, len(data), RECORD):
            self.tls.write(data[at : at + RECORD])
        self.send()

    def hear(self) -> bytes:
        self.take()
        heard = b""
        while True:
            try:
                piece = self.tls.read(RECORD)
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                return heard
            if not piece:
                return heard
            heard += piece


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls1.2", "tls1.3"])
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    return ssl.TLSVersion(request.param)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path, "tunnels.test")


@pytest.fixture
async def peer(pair: Pair, version: ssl.TLSVersion) -> Peer:
    return Peer(pair, version, Inside())


async def test_bytes_go_both_ways(peer: Peer) -> None:
    peer.say(b"hello")
    peer.transport.write(b"answer")
    peer.transport.writelines([b" and", b" more"])

    assert peer.inside.data == b"hello"
    assert peer.hear() == b"answer and more"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_large_writes_are_cut_into_records(peer: Peer, kind: type) -> None:
    data = bytes(range(256)) * 1000

    peer.transport.write(kind(data))

    assert peer.hear() == data


async def test_a_record_that_comes_byte_by_byte_is_read_once_it_is_whole(peer: Peer) -> None:
    peer.tls.write(b"hello")
    while peer.outgoing.pending > 1:
        peer.send(1)
        assert peer.inside.data == b""

    peer.send(1)

    assert peer.inside.data == b"hello"


async def test_records_that_come_together_are_given_in_one_piece(peer: Peer) -> None:
    for number in range(10):
        peer.tls.write(b"%d" % number)
    peer.send()

    assert peer.inside.pieces == [b"0123456789"]


async def test_a_flood_of_tiny_records_takes_turns(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURN", 0.0)
    for _ in range(50):
        peer.tls.write(b"x")
    peer.send()

    assert len(peer.inside.data) < 50
    assert peer.wire.reading_paused
    await until(lambda: len(peer.inside.data) == 50)
    assert not peer.wire.reading_paused


async def test_while_reading_is_paused_nothing_is_delivered(peer: Peer) -> None:
    peer.transport.pause_reading()
    peer.say(b"hello")
    assert (peer.inside.data, peer.wire.reading_paused) == (b"", True)

    peer.transport.resume_reading()

    await until(lambda: peer.inside.data == b"hello")
    assert not peer.wire.reading_paused


async def test_a_protocol_that_pauses_in_the_midst_gets_the_rest_later(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DELIVERED", RECORD)
    received = peer.inside.data_received

    def pause_after(data: bytes) -> None:
        received(data)
        peer.transport.pause_reading()

    monkeypatch.setattr(peer.inside, "data_received", pause_after)
    peer.say(b"x" * (5 * RECORD))
    first = len(peer.inside.data)
    await asyncio.sleep(0)
    assert len(peer.inside.data) == first < 5 * RECORD

    monkeypatch.setattr(peer.inside, "data_received", received)
    peer.transport.resume_reading()
    await until(lambda: len(peer.inside.data) == 5 * RECORD)


async def test_the_peers_close_notify_is_an_end_and_closes_unless_the_protocol_wants_to_write(
    peer: Peer,
) -> None:
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.unwrap()
    peer.send()

    assert peer.inside.events == ["eof"]
    assert peer.wire.closed


async def test_after_the_peers_end_a_protocol_may_still_answer(pair: Pair, version: ssl.TLSVersion) -> None:
    peer = Peer(pair, version, Inside(half_open=True))
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.unwrap()
    peer.send()
    peer.transport.write(b"answer")

    assert not peer.wire.closed
    assert peer.wire.written  # OpenSSL's client takes no data after its own close_notify, others do


async def test_an_end_without_close_notify_is_none(peer: Peer) -> None:
    assert not peer.transport.eof_received()

    assert peer.inside.events == []


async def test_after_its_own_end_the_server_still_reads(peer: Peer) -> None:
    peer.transport.pause_reading()
    peer.say(b"before ")
    peer.transport.write_eof()
    peer.transport.write(b"dropped")
    peer.say(b"after")
    peer.transport.resume_reading()

    await until(lambda: peer.inside.data == b"before after")
    assert peer.wire.eof_written
    assert peer.hear() == b""


async def test_closing_says_close_notify_first(peer: Peer) -> None:
    peer.transport.write(b"last words")
    peer.transport.close()

    assert peer.hear() == b"last words"
    assert peer.tls.read(1) == b""
    assert peer.wire.closed
    assert peer.transport.is_closing()


async def test_a_forged_record_ends_the_connection_with_an_alert(peer: Peer) -> None:
    peer.tls.write(b"hello")
    data = bytearray(peer.outgoing.read())
    data[-1] ^= 1
    peer.transport.data_received(bytes(data))

    assert peer.inside.data == b""
    assert peer.wire.closed
    assert not peer.wire.aborted  # which would take the alert back
    peer.take()
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        peer.tls.read(1)


async def test_write_pauses_and_the_end_reach_the_protocol_inside(peer: Peer) -> None:
    peer.transport.pause_writing()
    peer.transport.resume_writing()
    peer.transport.connection_lost(None)

    assert peer.inside.events == ["pause", "resume", "lost"]


async def test_it_knows_what_was_negotiated_and_whom_the_proxy_told_of(peer: Peer) -> None:
    assert peer.transport.get_extra_info("peername") == ("203.0.113.9", 7)
    assert peer.transport.get_extra_info("ssl_object") is peer.transport.tls
    assert peer.transport.get_extra_info("sslcontext") is peer.transport.tls.context
    assert peer.transport.get_extra_info("nothing", 7) == 7


async def test_a_peer_that_sends_without_end_in_its_handshake_is_cut_off(pair: Pair) -> None:
    wire, lost = FakeWire(), []
    context = pair.server_context()
    transport = TlsTransport.accept(wire, lambda i, o: context.wrap_bio(i, o, server_side=True), None)
    assert transport is not None
    transport.lost = lambda: lost.append(True)
    transport.data_received(b"\x16" * (module.HANDSHAKE + 1))
    transport.connection_lost(None)

    assert wire.aborted
    assert lost == [True]
