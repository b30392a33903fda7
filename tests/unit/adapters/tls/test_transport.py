"""The TLS transport against Python's own TLS client, byte by byte."""

from __future__ import annotations

import asyncio
import gc
import ssl
import weakref
from pathlib import Path
from typing import Any

import pytest
from certs import Pair, make_pair
from fakes.records import Records
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

    def __init__(
        self,
        pair: Pair,
        version: ssl.TLSVersion,
        inside: Inside,
        key_log: Path | None = None,
        early: bytes = b"",
    ) -> None:
        server, client = pair.server_context(), pair.client_context()
        if key_log is not None:
            client.keylog_filename = str(key_log)
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
        if early and version is ssl.TLSVersion.TLSv1_3:
            self.tls.write(early)  # right behind the end of the handshake
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


# those who mean no good


@pytest.fixture
def hostile(pair: Pair, tmp_path: Path) -> tuple[Peer, Records]:
    """A peer after a handshake of TLS 1.3, and a pen to write its records with."""
    peer = Peer(pair, ssl.TLSVersion.TLSv1_3, Inside(), tmp_path / "keys")
    return peer, Records(peer.tls, tmp_path / "keys")


async def test_a_key_update_is_answered_with_what_is_written_next(hostile: tuple[Peer, Records]) -> None:
    peer, records = hostile
    peer.transport.data_received(records.key_update() + records.record(b"hello"))

    assert peer.inside.data == b"hello"
    peer.transport.write(b"answer")
    assert len(b"".join(peer.wire.written)) == 27 + 22 + len(b"answer")  # a record with a KeyUpdate comes first
    assert peer.hear() == b"answer"


@pytest.mark.parametrize("answered", [True, False])
async def test_a_flood_of_key_updates_is_cut_off_after_a_few(hostile: tuple[Peer, Records], answered: bool) -> None:
    peer, records = hostile
    peer.transport.data_received(b"".join(records.key_update(answered=answered) for _ in range(10_000)))

    await until(lambda: peer.wire.closed)  # in turns, if this one took long
    assert peer.inside.data == b""


async def test_records_without_data_are_no_harm_as_long_as_data_comes_between(hostile: tuple[Peer, Records]) -> None:
    peer, records = hostile
    for number in range(20):
        peer.transport.data_received(b"".join(records.record(b"") for _ in range(10)) + records.record(b"%d" % number))

    await until(lambda: peer.inside.data == b"".join(b"%d" % number for number in range(20)))
    assert not peer.wire.closed


async def test_one_who_takes_no_alerts_is_cut_off(
    hostile: tuple[Peer, Records], monkeypatch: pytest.MonkeyPatch
) -> None:
    peer, records = hostile
    monkeypatch.setattr(peer.wire, "get_write_buffer_size", lambda: module.UNTAKEN + 1)
    peer.transport._outgoing.write(b"an alert")
    peer.transport.data_received(records.key_update())

    assert peer.wire.aborted


async def test_each_record_takes_its_turn_however_little_it_carries(
    hostile: tuple[Peer, Records], monkeypatch: pytest.MonkeyPatch
) -> None:
    peer, records = hostile
    monkeypatch.setattr(module, "TURN", 0.0)
    peer.transport.data_received(records.key_update() + records.key_update() + records.record(b"late"))

    assert peer.inside.data == b""
    await until(lambda: peer.inside.data == b"late")


async def test_what_is_no_record_is_refused_at_once(peer: Peer) -> None:
    peer.transport.data_received(b"GET / HTTP/1.1\r\n")

    assert peer.wire.closed
    assert peer.wire.written


async def test_no_piece_is_so_large_that_what_is_in_it_keeps_the_loop(peer: Peer) -> None:
    peer.say(b"x" * 1_000_000)

    await until(lambda: len(peer.inside.data) == 1_000_000)
    assert max(map(len, peer.inside.pieces)) <= 32 * 1024  # 2,000 of the smallest packets of SSH


# what it keeps


async def test_a_burst_leaves_openssl_no_large_buffers(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    fullest = [0, 0]
    decrypt, encrypt = peer.transport._next_record, peer.wire.write

    def next_record(record: bytes) -> bytes:
        fullest[0] = max(fullest[0], len(record))
        return decrypt(record)

    def write(data: bytes) -> None:
        fullest[1] = max(fullest[1], len(data))
        encrypt(data)

    monkeypatch.setattr(module.TlsTransport, "_next_record", lambda _, record: next_record(record))
    monkeypatch.setattr(peer.wire, "write", write)
    peer.say(b"x" * 1_000_000)
    peer.transport.write(b"y" * 1_000_000)

    await until(lambda: len(peer.inside.data) == 1_000_000)
    assert peer.hear() == b"y" * 1_000_000
    assert fullest[0] <= module.CIPHERTEXT + module.HEAD
    assert fullest[1] <= module.WRITTEN + module.CIPHERTEXT + module.HEAD


async def test_once_it_is_lost_nothing_holds_it(pair: Pair, version: ssl.TLSVersion) -> None:
    peer = Peer(pair, version, Inside())
    gone = weakref.ref(peer.transport)
    peer.transport.connection_lost(None)
    gc.disable()
    try:
        del peer
        assert gone() is None
    finally:
        gc.enable()


# the contract of transports


async def test_the_sockets_end_after_close_notify_leaves_the_answer_its_way(
    pair: Pair, version: ssl.TLSVersion
) -> None:
    peer = Peer(pair, version, Inside(half_open=True))
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.unwrap()
    peer.send()

    assert peer.transport.eof_received()
    peer.transport.write(b"answer")
    assert peer.wire.written


async def test_what_comes_after_the_peers_end_is_not_looked_at(pair: Pair, version: ssl.TLSVersion) -> None:
    peer = Peer(pair, version, Inside(half_open=True))
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.unwrap()
    peer.send()
    peer.transport.data_received(b"anything")

    assert peer.inside.events == ["eof"]
    assert not peer.wire.closed


async def test_a_protocol_that_fails_in_a_later_turn_loses_the_connection_as_in_the_first(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))

    def fail(data: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(peer.inside, "data_received", fail)
    peer.transport.pause_reading()
    peer.say(b"hello")
    peer.transport.resume_reading()

    await until(lambda: peer.wire.aborted)
    assert isinstance(seen[0]["exception"], ZeroDivisionError)


async def test_a_protocol_that_refuses_the_connection_gets_no_data(pair: Pair, version: ssl.TLSVersion) -> None:
    class Full(Inside):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.abort()  # type: ignore[attr-defined]

    peer = Peer(pair, version, Full(), early=b"hello")

    assert peer.wire.aborted
    assert peer.inside.data == b""
