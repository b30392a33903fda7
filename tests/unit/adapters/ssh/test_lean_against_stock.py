"""The lean packet path against asyncssh's own: whatever a client sends, both do the same.

A script of steps - packets of a client, good and bad, and what the relay does meanwhile - is played to two logged-in
connections, one of each kind, with the same keys and the same cuts in the stream. Then all that their receivers heard,
all that they sent, how they ended, and what they hold must be equal. LEAN_FUZZ_EXAMPLES=20000 plays more scripts.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import asyncssh
import pytest
from asyncssh.constants import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_CHANNEL_OPEN_FAILURE,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_SUCCESS,
    MSG_CHANNEL_WINDOW_ADJUST,
    MSG_DEBUG,
    MSG_DISCONNECT,
    MSG_GLOBAL_REQUEST,
    MSG_IGNORE,
    MSG_KEXINIT,
    MSG_NEWKEYS,
    MSG_REQUEST_FAILURE,
    MSG_REQUEST_SUCCESS,
    MSG_UNIMPLEMENTED,
)
from asyncssh.encryption import get_encryption, get_encryption_params
from asyncssh.packet import Boolean, NameList, SSHPacket, String, UInt32
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunnel_server.adapters.ssh import channel as channel_module
from tunnel_server.adapters.ssh import connection as connection_module
from tunnel_server.adapters.ssh import lean as lean_module
from tunnel_server.adapters.ssh.connection import Connection
from tunnel_server.adapters.ssh.lean import LeanConnection, LeanSocket, _lean
from tunnel_server.adapters.ssh.session import SessionChannel
from tunnel_server.domain.errors import ChannelRefused
from tunnel_server.domain.ports import ChannelReceiver

EXAMPLES = int(os.environ.get("LEAN_FUZZ_EXAMPLES", "0"))
SEEDED = EXAMPLES or 260  # scripts by seed, of each cipher
GUIDED = EXAMPLES or 60  # scripts by hypothesis

GCM, CHACHA, CTR = b"aes128-gcm@openssh.com", b"chacha20-poly1305@openssh.com", b"aes128-ctr"
MAC = b"hmac-sha2-256"
KEX_ECDH_INIT, KEX_ECDH_REPLY = 30, 31
POINT = b"\x09" + bytes(31)  # some public key of curve25519
NOWHERE = 4711  # no channel has this number
CONNECTION_WIDE = -1

Step = tuple[Any, ...]


# the world around a connection


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.reading = True
        self.gone = False
        self.protocol: asyncio.BaseProtocol

    def write(self, data: Any) -> None:
        if not self.gone:
            self.written += data

    def abort(self) -> None:
        if not self.gone:
            self.gone = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    close = abort

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 22) if name in ("peername", "sockname") else default


class Log(list[tuple[Any, ...]]):
    """What happened, in order."""

    def add(self, *entry: Any) -> None:
        self.append(entry)


class Receiver(ChannelReceiver):
    """Notes what it hears, and acts on it as it was told to."""

    def __init__(self, name: int, log: Log, connection: Connection) -> None:
        self.name = name
        self.log = log
        self.connection = connection
        self.channel: Any = None
        self.acts: deque[tuple[str, int]] = deque()

    def _heard(self, *entry: Any) -> None:
        self.log.add(self.name, *entry)
        if self.acts:
            act, size = self.acts.popleft()
            if act != "raise" or entry[0] in ("data", "eof"):
                self.do(act, size)

    def do(self, act: str, size: int) -> None:
        """Do what the relay might."""
        channel = self.channel
        if act == "raise":
            raise RuntimeError("a defect")
        if act == "cut":
            self.connection.close("because")
        elif channel is not None:
            if act == "write":
                channel.write(filling(size))
            elif act != "nothing":
                getattr(channel, act)()

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self._heard("data", data)

    def eof_received(self) -> None:
        self._heard("eof")

    def pause_writing(self) -> None:
        self._heard("pause")

    def resume_writing(self) -> None:
        self._heard("resume")

    def connection_lost(self) -> None:
        self.log.add(self.name, "lost")


class Typist(asyncssh.SSHServerSession[bytes]):
    """A session of the client's: not a channel of the lean kind."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def shell_requested(self) -> bool:
        return True

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self.log.add("session", data)

    def eof_received(self) -> bool:
        self.log.add("session", "eof")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.log.add("session", "lost", type(exc))


class Host(asyncssh.SSHServer):
    """Stands in for the owner of a connection."""

    def __init__(self) -> None:
        self.log = Log()
        self.connection: Any = None
        self.end: tuple[Any, ...] | None = None

    def connection_made(self, conn: Any) -> None:
        self.connection = conn

    def connection_lost(self, exc: Exception | None) -> None:
        assert self.end is None
        self.end = (type(exc), str(exc))
        self.log.add("ended")

    def debug_msg_received(self, msg: str, lang: str, always_display: bool) -> None:
        self.log.add("debug", msg, lang, always_display)

    def session_requested(self) -> Any:
        return SessionChannel(self.connection), Typist(self.log)

    async def open_forward(self, request: str) -> bool:
        self.log.add("forward", request)
        return True

    def forward_announced(self, request: str) -> None:
        self.log.add("announced", request)

    def cancel_forward(self, request: str) -> bool:
        self.log.add("cancel", request)
        return False

    def forward_is_not_text(self, path: bytes) -> None:
        self.log.add("not text", path)

    def refuse_tcp_forward(self) -> None:
        self.log.add("tcp")


class InOrder(dict[Any, None]):
    """A set that does not forget in which order things came, which would differ between two connections."""

    def add(self, thing: Any) -> None:
        self[thing] = None

    def discard(self, thing: Any) -> None:
        self.pop(thing, None)


class Keys:
    """A cipher of one direction with what goes with it."""

    def __init__(self, name: bytes, key: bytes, iv: bytes, mac_key: bytes) -> None:
        _, _, self.block, _, self.mac_size, etm = get_encryption_params(name, MAC)
        self.block = max(8, self.block)
        self.head = 1 if etm else 5  # bytes before the payload that count for the padding
        self.name = name
        self._words = (name, key, iv, MAC, mac_key, etm)

    def cipher(self) -> Any:
        return get_encryption(*self._words)


class Noting:
    """Notes the keys that a key exchange makes, for the client of the test to use."""

    def send_newkeys(self: Any, k: bytes, h: bytes) -> None:
        both = []
        for name, letters in ((self._enc_alg_cs, b"ACE"), (self._enc_alg_sc, b"BDF")):
            key_size, iv_size, _, mac_size, _, _ = get_encryption_params(name, MAC)
            iv, key, mac = (
                self._kex.compute_key(k, h, letters[n : n + 1], self._session_id, size)
                for n, size in enumerate((iv_size, key_size, mac_size))
            )
            both.append(Keys(name, key, iv, mac))
        self.made.append(both)
        super().send_newkeys(k, h)  # type: ignore[misc]


class StockUnderTest(Noting, Connection):
    """asyncssh's path."""


class LeanUnderTest(Noting, LeanConnection):
    """Ours."""


class Side:
    """One connection, logged in, and its end of the wire: what is fed to it, and what it sent."""

    def __init__(self, kind: Any, options: Any, setup: Setup) -> None:
        self.wire = Wire()
        loop = asyncio.get_running_loop()
        self.connection = conn = kind(loop, options)
        lean = isinstance(conn, LeanConnection)
        self.protocol: Any = LeanSocket(conn) if lean else conn
        self.wire.protocol = self.protocol
        conn.made = []
        self.exchanges = 0
        conn.channel_memory = setup.memory
        conn._upstreams = InOrder()
        self.protocol.connection_made(self.wire)
        self.host: Host = conn._owner
        self.log = self.host.log
        self.receivers: list[Receiver] = []
        self.opening: list[asyncio.Task[None]] = []
        self.refused: dict[int, str] = {}
        self.waiting: deque[bytes] = deque()
        self.sent: list[tuple[int, bytes, int]] = []
        self.read = 0
        self._log_in(setup, lean)
        self.wire.written.clear()

    def _log_in(self, setup: Setup, lean: bool) -> None:
        """Bring the connection where it is after a login, without one."""
        conn, to_server, to_client = self.connection, setup.to_server, setup.to_client
        conn._cancel_login_timer()
        conn._client_version = b"SSH-2.0-test"
        conn._session_id = b"s" * 32
        conn._client_kexinit = conn._server_kexinit = b""
        conn._enc_alg_cs = conn._mac_alg_cs = to_server.name
        conn._enc_alg_sc = conn._mac_alg_sc = to_client.name
        conn._cmp_alg_cs = conn._cmp_alg_sc = b"none"
        conn._send_encryption, conn._recv_encryption = to_client.cipher(), to_server.cipher()
        if lean:
            conn._send_encryption, conn._recv_encryption = _lean(conn._send_encryption), _lean(conn._recv_encryption)
        conn._send_enchdrlen, conn._send_blocksize = to_client.head, to_client.block
        conn._recv_blocksize, conn._recv_macsize = to_server.block, to_server.mac_size
        conn._send_seq = conn._recv_seq = setup.sequence
        conn._strict_kex = setup.strict
        conn._recv_handler = conn._recv_pkthdr
        conn._kex_complete = conn._auth_complete = True
        conn._can_recv_ext_info = True
        conn._rekey_bytes, conn._rekey_bytes_sent = setup.rekey_bytes, 0
        conn._rekey_time = monotonic() + 3600
        conn._next_service = b"ssh-connection"
        conn.verified_key = b"key"
        conn.windows.measured(0.0)  # or a window might grow on one side, by the clock

        self._cipher, self._keys, self._sequence = to_client.cipher(), to_client, setup.sequence
        self._strict = setup.strict

    # the client's end

    def feed(self, chunk: bytes) -> None:
        self.waiting.append(chunk)
        self.pump()

    def pump(self) -> None:
        """Deliver what the connection is ready to read, as the loop would."""
        while self.waiting and self.wire.reading and not self.wire.gone:
            chunk = self.waiting.popleft()
            if self.protocol is self.connection:
                self.protocol.data_received(chunk)
                continue
            buffer = self.protocol.get_buffer(-1)
            count = min(len(buffer), len(chunk))
            buffer[:count] = chunk[:count]
            self.protocol.buffer_updated(count)
            if count < len(chunk):
                self.waiting.appendleft(chunk[count:])

    def heard(self) -> list[tuple[int, bytes, int]]:
        """Return the packets that were sent and not seen yet: type, payload and size."""
        new = []
        data = self.wire.written
        while len(data) - self.read >= self._keys.block:
            at, block, mac_size = self.read, self._keys.block, self._keys.mac_size
            head, size = self._cipher.decrypt_header(self._sequence, bytes(data[at : at + block]), 4)
            length = int.from_bytes(size, "big")
            end = at + 4 + length
            assert length >= 5 and len(data) >= end + mac_size, "the server wrote half a packet"
            body = self._cipher.decrypt_packet(
                self._sequence, head, bytes(data[at + block : end]), 4, bytes(data[end : end + mac_size])
            )
            assert body, "the server wrote a packet that does not open"
            assert 4 <= body[0] < length and (length + (0 if self._keys.head == 1 else 4)) % block == 0
            payload = bytes(body[1 : -body[0]])
            self.read = end + mac_size
            self._sequence = (self._sequence + 1) & 0xFFFFFFFF
            new.append((payload[0], payload[1:], length))
            if payload[0] == MSG_NEWKEYS:
                _, self._keys = self.connection.made[self.exchanges]
                self.exchanges += 1
                self._cipher = self._keys.cipher()
                self._sequence = 0 if self._strict else self._sequence
        self.sent += new
        return new

    # what is compared

    def outcome(self) -> dict[str, Any]:
        """Return all that must be the same on both paths."""
        self.heard()
        assert self.read == len(self.wire.written)
        conn = self.connection
        found: dict[str, Any] = {
            "heard": [*self.log],
            "sent": [comparable(*packet) for packet in self.sent if packet[0] != MSG_IGNORE],
            "end": self.host.end,
            "hung up": self.wire.gone,
            "refused": self.refused,
            "failed": [repr(task.exception()) for task in self.opening if task.done() and task.exception()],
        }
        if conn._transport is not None:
            midway = len(conn._packet) if conn._recv_handler == conn._recv_packet else 0
            found["numbers"] = (conn._recv_seq, conn._send_seq, conn._rekey_bytes_sent, conn._max_recv_pktlen)
            found["state"] = (conn._kex_complete, conn._kex is not None, conn._auth_final, len(conn._deferred_packets))
            found["left"] = (len(conn._inpbuf) + midway, conn.windows.free, self.wire.reading)
            found["channels"] = {number: held(channel) for number, channel in conn._channels.items()}
        return found


def held(channel: Any) -> tuple[Any, ...]:
    """Return what a channel knows and keeps."""
    names = "_send_state _recv_state _send_window _recv_window _send_buf_len _recv_paused _send_paused _window _kept"
    kept = b"".join(data for data, _ in channel._recv_buf)
    unsent = b"".join(data for data, _ in channel._send_buf)
    return (*(getattr(channel, name, None) for name in names.split()), kept, unsent, len(channel._request_queue))


def comparable(kind: int, payload: bytes, size: int) -> tuple[int, bytes, int]:
    """Return a packet without what is drawn by lot."""
    if kind == MSG_KEXINIT:
        return kind, payload[16:], size
    if kind == KEX_ECDH_REPLY:
        return kind, b"", 0
    return kind, payload, size


def filling(size: int) -> bytes:
    """Return ``size`` bytes in which a piece that is lost, or comes twice, shows."""
    return b"".join(b"%07d " % n for n in range(size // 8 + 1))[:size]


class Setup:
    """The terms both connections start from."""

    def __init__(
        self,
        cipher: bytes,
        rekey_bytes: int = 1 << 30,
        memory: int = 1 << 20,
        strict: bool = True,
        sequence: int = 7,
        turn: float = 1e9,
    ) -> None:
        self.to_server = Keys(cipher, b"c" * get_encryption_params(cipher)[0], b"i" * 12, b"")
        self.to_client = Keys(cipher, b"s" * get_encryption_params(cipher)[0], b"j" * 12, b"")
        self.rekey_bytes = rekey_bytes
        self.memory = memory  # of which the first channel gets 8 KiB as its window, if it is 1 MiB
        self.strict = strict
        self.sequence = sequence
        self.turn = turn  # seconds; below 0, each packet has a turn of its own

    def __repr__(self) -> str:
        return (
            f"Setup({self.to_server.name!r}, rekey_bytes={self.rekey_bytes}, memory={self.memory}, "
            f"strict={self.strict}, sequence={self.sequence}, turn={self.turn})"
        )


class Sealer:
    """The client's sending end towards one of the connections."""

    def __init__(self, keys: Keys, sequence: int) -> None:
        self.keys, self.sequence = keys, sequence
        self.cipher = keys.cipher()

    def seal(self, body: bytes, length: int) -> bytes:
        """Return a packet; ``length`` is what its length field says."""
        sealed = b"".join(self.cipher.encrypt_packet(self.sequence, UInt32(length), body))
        self.sequence = (self.sequence + 1) & 0xFFFFFFFF
        return sealed


class Known:
    """What the client knows of a channel."""

    def __init__(self, number: int, window: int) -> None:
        self.number = number  # the server's
        self.window = window  # bytes we may send


class Play:
    """Plays a script to both connections."""

    def __init__(self, setup: Setup, options: Any) -> None:
        self.setup = setup
        self.stock = Side(StockUnderTest, options, setup)
        self.lean = Side(LeanUnderTest, options, setup)
        self.sides = (self.stock, self.lean)
        self.sealers = [Sealer(setup.to_server, setup.sequence) for _ in self.sides]
        self.channels: list[Known] = []
        self.unconfirmed: deque[Known] = deque()
        self.batch: list[list[bytes]] = [[], []]  # packets for each side, of the same sizes
        self.lengths: list[tuple[int, int]] = []  # what their length fields say, and the least that these may
        self.flips: list[tuple[int, int]] = []
        self.cut_short = 0
        self.short = False  # a packet was sent that says it is too short for asyncssh to know what to do
        self.exchanging = False

    async def run(self, steps: list[Step]) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            for name, *words in [*steps, ("feed", 0, 0)]:
                result = getattr(self, "do_" + name)(*words)
                if result is not None:
                    await result
            await self.idle()
            return self.stock.outcome(), self.lean.outcome() | {"short": self.short}
        finally:
            for side in self.sides:
                side.connection.abort()
                for task in side.opening:
                    task.cancel()
            for _ in range(20):
                await self.spin()

    # the loop

    async def spin(self) -> None:
        await asyncio.sleep(0)
        for side in self.sides:
            side.pump()

    async def idle(self) -> None:
        """Run the loop until nothing more comes of what was done."""
        quiet = 0
        while quiet < 10:
            await self.spin()
            busy = any(side.connection._tasks or side.connection._waits_turn for side in self.sides)
            quiet = 0 if busy else quiet + 1
        for packet in self.stock.heard():
            self._learn(*packet)

    def _learn(self, kind: int, payload: bytes, _: int) -> None:
        """Note what the server says of its channels, as a client does."""
        packet = SSHPacket(payload)
        if kind == MSG_CHANNEL_OPEN:
            packet.get_string()
            self.unconfirmed.append(Known(packet.get_uint32(), packet.get_uint32()))
        elif kind == MSG_CHANNEL_OPEN_CONFIRMATION:
            packet.get_uint32()
            self.channels.append(Known(packet.get_uint32(), packet.get_uint32()))
        elif kind == MSG_CHANNEL_WINDOW_ADJUST:
            mine, added = packet.get_uint32(), packet.get_uint32()
            for known in self.channels:
                if known.number == mine - 1000:
                    known.window += added

    # steps of the client: packets, which wait for "feed"

    def body(self, body: bytes, length: int | None = None) -> None:
        """Add a packet made by hand, all but its encryption."""
        said = len(body) if length is None else length
        self.lengths.append((said, 12 if self.sealers[0].keys.block == 16 else 4))
        for sealer, batch in zip(self.sealers, self.batch, strict=True):
            batch.append(sealer.seal(body, said))

    def packet(self, kind: int, *fields: bytes) -> None:
        payload = bytes([kind]) + b"".join(fields)
        keys = self.sealers[0].keys
        padding = -(keys.head + len(payload)) % keys.block
        padding += keys.block if padding < 4 else 0
        self.body(bytes([padding]) + payload + bytes(padding))

    def _channel(self, at: int) -> Known:
        return self.channels[at % len(self.channels)] if self.channels and at >= 0 else Known(NOWHERE, 0)

    def do_data(self, at: int, size: int, how: str) -> None:
        known = self._channel(at)
        size = {"exact": known.window, "over": known.window + 1, "half": known.window // 2 + 1}.get(how, size)
        known.window -= size
        self.packet(MSG_CHANNEL_DATA, UInt32(known.number), String(filling(size)))

    def do_tiny(self, at: int, count: int) -> None:
        for _ in range(count):
            self.do_data(at, 1, "")

    def do_lie(self, at: int, size: int, more: int) -> None:
        known = self._channel(at)
        said = max(0, size + more)
        self.packet(MSG_CHANNEL_DATA, UInt32(known.number), UInt32(said), filling(size))

    def do_extended(self, at: int, size: int) -> None:
        self.packet(MSG_CHANNEL_EXTENDED_DATA, UInt32(self._channel(at).number), UInt32(1), String(filling(size)))

    def do_adjust(self, at: int, added: int) -> None:
        self.packet(MSG_CHANNEL_WINDOW_ADJUST, UInt32(self._channel(at).number), UInt32(added))

    def do_adjust_cut(self, at: int, rest: bytes) -> None:
        self.packet(MSG_CHANNEL_WINDOW_ADJUST, UInt32(self._channel(at).number), rest)

    def do_end(self, kind: int, at: int, rest: bytes) -> None:
        self.packet(kind, UInt32(self._channel(at).number), rest)

    def do_request(self, at: int, name: bytes, reply: bool) -> None:
        self.packet(MSG_CHANNEL_REQUEST, UInt32(self._channel(at).number), String(name), Boolean(reply))

    def do_ask(self, name: bytes, reply: bool, rest: bytes) -> None:
        self.packet(MSG_GLOBAL_REQUEST, String(name), Boolean(reply), rest)

    def do_plain(self, kind: int, rest: bytes) -> None:
        self.packet(kind, rest)

    def do_session(self) -> None:
        self.packet(MSG_CHANNEL_OPEN, String(b"session"), UInt32(1000 + 500), UInt32(1000), UInt32(2000))

    def do_confirm(self, window: int, size: int) -> None:
        if self.unconfirmed:
            known = self.unconfirmed.popleft()
            self.channels.append(known)
            theirs = UInt32(1000 + known.number)
            self.packet(MSG_CHANNEL_OPEN_CONFIRMATION, UInt32(known.number), theirs, UInt32(window), UInt32(size))

    def do_refuse(self) -> None:
        if self.unconfirmed:
            number = UInt32(self.unconfirmed.popleft().number)
            self.packet(MSG_CHANNEL_OPEN_FAILURE, number, UInt32(2), String(b"no"), String(b""))

    def do_padded(self, at: int, said: int, padding: int) -> None:
        """Data in a packet whose padding is not as its length byte says."""
        payload = bytes([MSG_CHANNEL_DATA]) + UInt32(self._channel(at).number) + String(b"12345")
        self.body(bytes([said]) + payload + bytes(padding))

    def do_sized(self, first: int, kind: int, size: int) -> None:
        """A packet of ``size`` bytes, which may be no multiple of anything, and say nothing."""
        self.body((bytes([first, kind]) + UInt32(0) + filling(size))[:size])

    def do_mislead(self, length: int, size: int) -> None:
        """A packet whose length field does not say how long it is."""
        self.body(filling(size), length)

    def do_kexinit(self, cipher: bytes, guess: bool = False) -> None:
        """Begin a key exchange, perhaps with a guess, and a wrong one, of what both sides will agree on."""
        self.exchanging = True
        kex = [b"guess@test", b"curve25519-sha256"] if guess else [b"curve25519-sha256"]
        names = (kex, [b"ssh-ed25519"], [cipher], [cipher], [MAC], [MAC], [b"none"], [b"none"], [], [])
        self.packet(MSG_KEXINIT, bytes(16), *map(NameList, names), Boolean(guess), UInt32(0))
        if guess:
            self.packet(KEX_ECDH_INIT, b"for that exchange")

    async def do_exchange(self, cipher: bytes, cuts: int, seed: int) -> None:
        """A whole key exchange, whoever began it; the new keys' first packets come with NEWKEYS in one read."""
        if not self.exchanging:
            self.do_kexinit(cipher)
        self.packet(KEX_ECDH_INIT, String(POINT))
        before = [len(side.connection.made) for side in self.sides]
        await self.do_feed(cuts, seed)
        await self.idle()
        if any(len(side.connection.made) == count for side, count in zip(self.sides, before, strict=True)):
            return  # the connection ended before
        self.packet(MSG_NEWKEYS)
        self.exchanging = False
        for at, side in enumerate(self.sides):
            keys, _ = side.connection.made[-1]
            self.sealers[at] = Sealer(keys, 0 if self.setup.strict else self.sealers[at].sequence)

    # steps of the network

    async def do_feed(self, cuts: int, seed: int) -> None:
        """Deliver what was added: whole, cut at ``cuts`` random places, or byte by byte if that is below 0."""
        streams = [b"".join(batch) for batch in self.batch]
        size = len(streams[0])
        assert size == len(streams[1])
        if not size:
            return
        if self.setup.turn < 0:
            await self.idle()  # what was begun before is not to depend on who has a turn first
        starts = [0]
        for packet in self.batch[0]:
            starts.append(starts[-1] + len(packet))
        for place, bit in self.flips:
            place %= size
            streams = [s[:place] + bytes([s[place] ^ 1 << bit]) + s[place + 1 :] for s in streams]
            at = max(n for n, start in enumerate(starts) if start <= place)
            if place - starts[at] < 4:  # in a length field, which neither cipher hides from this
                said, least = self.lengths[at]
                self.lengths[at] = said ^ (1 << bit) << 8 * (3 - place + starts[at]), least
        self.short = self.short or any(said < least for said, least in self.lengths)
        self.batch, self.lengths = [[], []], []
        streams = [s[: size - self.cut_short % size] for s in streams]
        self.flips, self.cut_short = [], 0
        size = len(streams[0])
        rng = random.Random(seed)
        if cuts < 0:
            marks = [*range(1, min(size, 300)), *range(300, size, 997)]
        else:
            marks = sorted(rng.randrange(size) for _ in range(cuts)) if size else []
        for start, stop in zip([0, *marks], [*marks, size], strict=True):
            if start < stop:
                for side, stream in zip(self.sides, streams, strict=True):
                    side.feed(stream[start:stop])
                await (self.idle() if seed % 2 or self.setup.turn < 0 else self.spin())

    def do_flip(self, place: int, bit: int) -> None:
        self.flips.append((place, bit))

    def do_shorten(self, count: int) -> None:
        self.cut_short = count

    async def do_hang_up(self, how: str) -> None:
        await self.idle()  # the lean path sends at the end of a turn, and what is not sent before a reset is lost
        for side in self.sides:
            if not side.wire.gone:
                if how == "eof":
                    side.protocol.eof_received()
                else:
                    side.wire.gone = True
                    side.protocol.connection_lost(ConnectionResetError("reset"))

    def do_full(self) -> None:
        for side in self.sides:
            side.protocol.pause_writing()

    def do_empty(self) -> None:
        for side in self.sides:
            side.protocol.resume_writing()

    # steps of the server

    def do_open(self) -> None:
        for side in self.sides:
            receiver = Receiver(len(side.receivers), side.log, side.connection)
            side.receivers.append(receiver)
            side.opening.append(asyncio.create_task(self._open(side, receiver)))

    async def _open(self, side: Side, receiver: Receiver) -> None:
        try:
            receiver.channel = await side.connection.open_channel("/web", receiver)
        except ChannelRefused as error:
            side.refused[receiver.name] = str(error)

    def do_act(self, at: int, act: str, size: int) -> None:
        for side in self.sides:
            if side.receivers:
                receiver = side.receivers[at % len(side.receivers)]
                try:
                    receiver.do(act, size)
                except Exception as error:
                    side.log.add(receiver.name, "raised", repr(error))

    def do_react(self, at: int, act: str, size: int) -> None:
        for side in self.sides:
            if side.receivers:
                side.receivers[at % len(side.receivers)].acts.append((act, size))

    def do_leave(self) -> None:
        for side in self.sides:
            side.connection.disconnect(asyncssh.DISC_BY_APPLICATION, "bye")

    def do_rekey_due(self) -> None:
        for side in self.sides:
            side.connection._rekey_time = 0.0

    def do_say(self) -> None:
        """Something that is neither data nor of a channel."""
        for side in self.sides:
            if side.connection._transport is not None:
                side.connection.send_debug("hello")

    async def do_spin(self, count: int) -> None:
        for _ in range(count):
            await self.spin()

    def do_idle(self) -> Awaitable[None]:
        return self.idle()


# scripts

ACTS = ("write", "write_eof", "pause_reading", "resume_reading", "close", "abort")
REACTS = (*ACTS, "nothing", "nothing", "resume_reading", "write", "write", "raise", "cut")
SIZES = (0, 1, 2, 3, 7, 8, 15, 16, 17, 100, 1000, 2047, 4095, 4096, 4097, 5000, 8000)
GLOBALS = (
    b"keepalive@openssh.com", b"no-more-sessions@openssh.com", b"unknown@test", b"", b"\xff",
    b"streamlocal-forward@openssh.com", b"cancel-streamlocal-forward@openssh.com", b"tcpip-forward",
)  # fmt: skip
KINDS = (
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    20,
    21,
    29,
    30,
    50,
    52,
    79,
    80,
    81,
    82,
    89,
    90,
    93,
    94,
    95,
    96,
    97,
    98,
    99,
    100,
    192,
    255,
)


USUAL = (  # how often each is written
    ("data", 8), ("tiny", 3), ("adjust", 8), ("feed", 12), ("idle", 3), ("spin", 2), ("write", 12), ("pace", 4),
    ("react", 6), ("open", 3), ("ask", 2), ("ignore", 1), ("debug", 1), ("exchange", 2), ("end", 1), ("request", 1),
    ("finish", 1), ("full", 1), ("empty", 1), ("say", 1), ("rekey_due", 0.5),
)  # fmt: skip


class Author:
    """Writes scripts: long runs of what is allowed, with something odd here and there."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def setup(self, cipher: bytes) -> Setup:
        rng = self.rng
        return Setup(
            cipher,
            rekey_bytes=rng.choice([1 << 30, 1 << 30, 1 << 30, 20_000, 2000, 600]),
            memory=rng.choice([1 << 20, 1 << 20, 1 << 20, 64 << 20]),
            strict=rng.choice([True, False]),
            sequence=rng.choice([7, 7, 0, 255, 2**32 - 3]),
            turn=rng.choice([1e9, 1e9, -1.0]),
        )

    def script(self, length: int) -> list[Step]:
        odd = self.rng.choice([0.0, 0.02, 0.15])
        start: list[Step] = []
        for _ in range(self.rng.randrange(1, 4)):
            start += [("open",), ("idle",), self._confirm()]
        start += self.rng.choice([[("feed", 0, 1), ("idle",)], [("feed", 0, 1), ("spin", self.rng.randrange(6))], []])
        return start + [self._odd() if self.rng.random() < odd else self._usual() for _ in range(length)]

    def _size(self) -> int:
        return self.rng.choice(SIZES) if self.rng.random() < 0.9 else self.rng.randrange(40_000)

    def _at(self) -> int:
        return self.rng.randrange(4)

    def _confirm(self) -> Step:
        window = self.rng.choice([0, 1, 100, 5000, 200_000, 2**32 - 1])
        return "confirm", window, self.rng.choice([1024, 1024, 2000, 32768, 32768, self.rng.choice([0, 1, 1023])])

    def _usual(self) -> Step:
        rng, at = self.rng, self._at()
        kind = rng.choices(*zip(*USUAL, strict=True))[0]
        match kind:
            case "data":
                return "data", at, self._size(), rng.choice(["", "", "", "", "exact", "half"])
            case "tiny":
                return "tiny", at, rng.randrange(1, 40)
            case "adjust":
                return "adjust", at, rng.choice([0, 1, 50, 4096, 4096, 100_000])
            case "feed":
                return "feed", rng.choice([0, 0, 1, 3, 10, -1]), rng.randrange(1000)
            case "write":
                return "act", at, "write", self._size()
            case "pace":
                return "act", at, rng.choice(["pause_reading", "resume_reading", "resume_reading"]), 0
            case "finish":
                return "act", at, rng.choice(["write_eof", "write_eof", "close", "abort"]), 0
            case "react":
                return "react", at, rng.choice(REACTS), self._size()
            case "open":
                return rng.choice([("open",), self._confirm(), self._confirm(), ("refuse",), ("session",)])
            case "spin":
                return "spin", rng.randrange(1, 8)
            case "ask":
                return "ask", rng.choice(GLOBALS[:3]), rng.random() < 0.5, b""
            case "ignore":
                return "plain", MSG_IGNORE, String(filling(rng.choice(SIZES)))
            case "debug":
                return "plain", MSG_DEBUG, Boolean(True) + String(b"hi") + String(b"en")
            case "exchange":
                return (
                    "exchange",
                    rng.choice([GCM, CHACHA, GCM, CHACHA, CTR]),
                    rng.choice([0, 2, -1]),
                    rng.randrange(99),
                )
            case "end":
                return "end", rng.choice([MSG_CHANNEL_EOF, MSG_CHANNEL_EOF, MSG_CHANNEL_CLOSE]), at, b""
            case "request":
                name = rng.choice([b"keepalive@openssh.com", b"shell", b"x"])
                return "request", at, name, rng.random() < 0.5
            case _:
                return (kind,)

    def _odd(self) -> Step:
        rng = self.rng
        at = rng.choice([0, 0, 1, 1, 2, 3, CONNECTION_WIDE])
        rest = rng.choice([b"", b"\0", bytes(4), bytes(5), filling(30)])
        steps: list[Callable[[], Step]] = [
            lambda: ("data", at, self._size(), ""),
            lambda: ("data", at, 0, "over"),
            lambda: ("data", at, 0, "over"),
            lambda: ("lie", at, rng.choice(SIZES), rng.choice([-5, -1, 1, 4, 1 << 20])),
            lambda: ("extended", at, rng.choice(SIZES)),
            lambda: ("adjust", at, rng.choice([0, 2**31, 2**32 - 1])),
            lambda: ("adjust_cut", at, rest),
            lambda: ("adjust_cut", at, bytes(rng.randrange(12))),
            lambda: ("end", rng.choice([MSG_CHANNEL_EOF, MSG_CHANNEL_CLOSE]), at, rest),
            lambda: ("end", rng.choice([MSG_CHANNEL_SUCCESS, MSG_CHANNEL_FAILURE]), at, rest),
            lambda: ("request", at, rng.choice([b"exec", b"", b"\xff", b"x" * 99]), rng.random() < 0.5),
            lambda: ("ask", rng.choice(GLOBALS), rng.random() < 0.5, rng.choice([b"", String(b"/web"), rest])),
            lambda: ("plain", rng.choice(KINDS), rest),
            lambda: ("plain", MSG_UNIMPLEMENTED, UInt32(5)),
            lambda: ("plain", MSG_DISCONNECT, UInt32(rng.choice([2, 11, 11])) + String(b"bye") + String(b"")),
            lambda: ("plain", rng.choice([MSG_REQUEST_SUCCESS, MSG_REQUEST_FAILURE]), rest),
            lambda: ("padded", at, 0, 0),
            lambda: ("padded", at, rng.choice([0, 1, 3, 4, 5, 6, 19, 20, 25, 255]), rng.choice([0, 1, 4, 5, 6, 20])),
            lambda: ("sized", rng.choice([0, 1, 4, 5, 6, 10, 255]), rng.choice(KINDS), rng.randrange(48)),
            lambda: ("mislead", rng.choice([0, 4, 11, 12, 16, 20, 32, 100, 1 << 18, (1 << 18) + 1, 2**32 - 1]), 32),
            lambda: ("flip", rng.randrange(1 << 16), rng.randrange(8)),
            lambda: ("shorten", rng.randrange(1, 40)),
            lambda: ("hang_up", rng.choice(["eof", "reset"])),
            lambda: ("kexinit", rng.choice([GCM, CHACHA, CTR, b"none"]), rng.random() < 0.3),
            lambda: ("leave",),
        ]  # fmt: skip
        return rng.choice(steps)()


# running them


@pytest.fixture(scope="module")
def play() -> Iterator[Callable[..., tuple[dict[str, Any], dict[str, Any]]]]:
    """Play a script; gives the outcomes of both paths."""
    with asyncio.Runner() as runner, pytest.MonkeyPatch.context() as patch:
        options = runner.run(server_options())
        patch.setattr(channel_module, "log", Silence())
        patch.setattr(Connection, "_handle_received", handle_with_turns_between_packets)

        def run(setup: Setup, steps: list[Step]) -> tuple[dict[str, Any], dict[str, Any]]:
            async def both() -> tuple[dict[str, Any], dict[str, Any]]:
                return await Play(setup, options).run(steps)

            with turns_of(setup.turn):
                return runner.run(both())

        yield run


def handle_with_turns_between_packets(self: Any) -> None:
    """Take the place of the method on asyncssh's path, which gives a turn behind a header as well: ours does not.

    Who has a turn first is nothing that a client could rely on, but would show in what is compared.
    """
    while self._inpbuf and self._transport is not None and self._recv_handler():
        if self._recv_handler == self._recv_pkthdr and self._inpbuf and connection_module.TURN < 0:
            self._wait_turn()
            return


class Silence:
    """Takes the place of the log: what the receivers raise is on purpose."""

    def exception(self, event: str) -> None:
        pass


@contextmanager
def turns_of(seconds: float) -> Iterator[None]:
    """Set how long one connection's packets may keep the loop."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection_module, "TURN", seconds)
        patch.setattr(lean_module, "TURN", seconds)
        yield


async def server_options() -> Any:
    return await asyncssh.SSHServerConnectionOptions.construct(
        None,
        config=[],
        server_factory=Host,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        encryption_algs=[GCM.decode(), CHACHA.decode(), CTR.decode()],
        kex_algs=["curve25519-sha256"],
        mac_algs=[MAC.decode()],
        compression_algs=None,
        gss_host=None,
        encoding=None,
        keepalive_interval=0,
    )


def differences(play: Any, setup: Setup, steps: list[Step]) -> dict[str, Any]:
    """Return in what the two paths differ: what asyncssh did, and what we did."""
    stock, lean = play(setup, steps)
    # Intended: a packet that says it is too short is refused. What asyncssh makes of one depends on how the bytes came.
    if lean.pop("short") and lean["end"] == (asyncssh.MACError, "MAC verification failed"):
        return {}
    return {
        key: (stock.get(key), lean.get(key)) for key in stock.keys() | lean.keys() if stock.get(key) != lean.get(key)
    }


def smallest(play: Any, setup: Setup, steps: list[Step]) -> list[Step]:
    """Leave out of a script whatever is not needed for the two paths to differ."""
    at = len(steps) - 1
    while at >= 0:
        fewer = steps[:at] + steps[at + 1 :]
        if differences(play, setup, fewer):
            steps = fewer
        at -= 1
    return steps


def assert_alike(play: Any, setup: Setup, steps: list[Step]) -> None:
    if differences(play, setup, steps):
        steps = smallest(play, setup, steps)
        raise AssertionError(f"{setup}\n{steps}\n{differences(play, setup, steps)}")


CIPHERS = pytest.mark.parametrize("cipher", [GCM, CHACHA], ids=["GCM", "ChaCha20"])
OPEN: list[Step] = [("open",), ("idle",), ("confirm", 5000, 1024), ("feed", 0, 1), ("idle",)]
SHUT: list[Step] = [("open",), ("idle",), ("confirm", 0, 1024), ("feed", 0, 1), ("idle",)]
WINDOW = 8192  # of the first channel
PART = String(filling(5))


def ended(*reasons: str) -> Callable[[Any], bool]:
    return lambda found: found["end"] is not None and found["end"][1] in reasons


def heard(*entries: Any) -> Callable[[Any], bool]:
    return lambda found: [entry[1:] for entry in found["heard"] if entry[0] == 0] == list(entries)


def sent(*kinds: int) -> Callable[[Any], bool]:
    """Tell whether this was sent last, and the connection lives."""
    return lambda found: [kind for kind, _, _ in found["sent"]][-len(kinds) :] == [*kinds] and found["end"] is None


DATA, ADJUST, BYE = MSG_CHANNEL_DATA, MSG_CHANNEL_WINDOW_ADJUST, MSG_DISCONNECT
CASES: dict[str, tuple[list[Step], Callable[[Any], bool]]] = {
    "data that uses up the window is taken": (
        [*OPEN, ("data", 0, 0, "exact")],
        heard(("data", filling(WINDOW))),
    ),
    "data beyond the window ends the connection": ([*OPEN, ("data", 0, 0, "over")], ended("Window exceeded")),
    "an octet beyond the window, too": (
        [*OPEN, ("act", 0, "pause_reading", 0), ("data", 0, 0, "exact"), ("feed", 0, 1), ("data", 0, 1, "")],
        ended("Window exceeded"),
    ),
    "half a window is not replenished": ([*OPEN, ("data", 0, WINDOW // 2, "")], lambda found: len(found["sent"]) == 1),
    "more than half a window is replenished": ([*OPEN, ("data", 0, WINDOW // 2 + 1, "")], sent(ADJUST)),
    "empty data says nothing": ([*OPEN, ("data", 0, 0, "")], heard()),
    "data whose length says too little ends the connection": (
        [*OPEN, ("lie", 0, 20, -4)],
        ended("Unexpected data at end of packet"),
    ),
    "data whose length says too much ends the connection": ([*OPEN, ("lie", 0, 20, 1)], ended("Incomplete packet")),
    "data for a channel that never was ends the connection": (
        [*OPEN, ("data", CONNECTION_WIDE, 5, "")],
        ended(f"Invalid channel number {NOWHERE} received"),
    ),
    "data for a channel not yet confirmed ends the connection": (
        [("open",), ("idle",), ("plain", DATA, UInt32(0) + PART)],
        ended("Channel not open for sending"),
    ),
    "data with the confirmation is delivered once the channel is open": (
        [("open",), ("idle",), ("confirm", 1, 1024), ("data", 0, 5, "")],
        heard(("data", filling(5))),
    ),
    "data after the end of the stream ends the connection": (
        [*OPEN, ("end", MSG_CHANNEL_EOF, 0, b""), ("data", 0, 5, "")],
        ended("Channel not open for sending"),
    ),
    "data with the end of its channel ends the connection": (
        [*OPEN, ("end", MSG_CHANNEL_CLOSE, 0, b""), ("data", 0, 5, "")],
        ended("Channel not open for sending", "Invalid channel number 0 received"),
    ),
    "data long after the end of its channel ends the connection": (
        [*OPEN, ("end", MSG_CHANNEL_CLOSE, 0, b""), ("feed", 0, 1), ("idle",), ("data", 0, 5, "")],
        ended("Invalid channel number 0 received"),
    ),
    "data for a channel that we closed is dropped": (
        [*OPEN, ("act", 0, "close", 0), ("data", 0, 5, ""), ("say",)],
        heard(),
    ),
    "data for a channel that has still to send is dropped": (
        [*SHUT, ("act", 0, "write", 10), ("act", 0, "close", 0), ("data", 0, 5, ""), ("adjust", 0, 10)],
        sent(DATA, MSG_CHANNEL_CLOSE),
    ),
    "extended data ends the connection": ([*OPEN, ("extended", 0, 5)], ended("Invalid extended data type")),
    "what a paused receiver is sent comes when it resumes": (
        [*OPEN, ("act", 0, "pause_reading", 0), ("tiny", 0, 9), ("data", 0, 8, ""), ("feed", 3, 1),
         ("act", 0, "resume_reading", 0)],
        heard(("data", b"0" * 9 + filling(8))),
    ),
    "a stream that ends while its receiver is paused ends after what it sent": (
        [*OPEN, ("act", 0, "pause_reading", 0), ("tiny", 0, 2), ("end", MSG_CHANNEL_EOF, 0, b""), ("feed", 0, 1),
         ("act", 0, "resume_reading", 0)],
        heard(("data", b"00"), ("eof",)),
    ),
    "a receiver that aborts in the midst hears nothing more but the end": (
        [*OPEN, ("react", 0, "abort", 0), ("data", 0, 3, ""), ("data", 0, 4, ""), ("feed", 0, 1), ("idle",),
         ("end", MSG_CHANNEL_CLOSE, 0, b"")],
        heard(("data", filling(3)), ("lost",)),
    ),
    "a receiver that fails ends its channel only": (
        [*OPEN, ("react", 0, "raise", 0), ("data", 0, 3, ""), ("data", 0, 4, "")],
        sent(MSG_CHANNEL_CLOSE),
    ),
    "a receiver that cuts the connection off in the midst hears nothing more": (
        [*OPEN, ("react", 0, "cut", 0), ("data", 0, 3, ""), ("data", 0, 4, "")],
        heard(("data", filling(3)), ("lost",)),
    ),
    "an answer given before the client says goodbye is sent": (
        [*OPEN, ("react", 0, "write", 9), ("data", 0, 3, ""),
         ("plain", BYE, UInt32(11) + String(b"bye") + String(b""))],
        lambda found: found["sent"][-1][0] == DATA and found["end"][0] is type(None),
    ),
    "nothing that follows a goodbye is handled": (
        [*OPEN, ("plain", BYE, UInt32(2) + String(b"bye") + String(b"")), ("data", 0, 3, ""), ("ask", b"x", True, b"")],
        lambda found: found["end"][0] is asyncssh.ProtocolError and len(found["sent"]) == 1,
    ),
    "a write beyond the client's window waits for leave to be sent": (
        [*SHUT, ("act", 0, "write", 3000), ("adjust", 0, 10), ("adjust", 0, 5000)],
        sent(DATA, DATA, DATA, DATA),
    ),
    "an empty write sends nothing": ([*OPEN, ("act", 0, "write", 0), ("say",)], sent(MSG_CHANNEL_OPEN, MSG_DEBUG)),
    "an empty write behind one that waits sends nothing": (
        [*SHUT, ("act", 0, "write", 9), ("act", 0, "write", 0), ("adjust", 0, 50), ("feed", 0, 1), ("idle",), ("say",)],
        sent(DATA, MSG_DEBUG),
    ),
    "leave to send with something behind it ends the connection": (
        [*SHUT, ("adjust_cut", 0, bytes(5))],
        ended("Unexpected data at end of packet"),
    ),
    "leave to send that is cut short ends the connection": (
        [*SHUT, ("adjust_cut", 0, bytes(3))],
        ended("Incomplete packet"),
    ),
    "leave to send nothing is taken": ([*SHUT, ("act", 0, "write", 9), ("adjust", 0, 0)], sent(MSG_CHANNEL_OPEN)),
    "leave to send after the stream has ended is taken": (
        [*SHUT, ("act", 0, "write", 9), ("end", MSG_CHANNEL_EOF, 0, b""), ("adjust", 0, 9)],
        sent(DATA),
    ),
    "leave to send on a channel that is closing ends the connection": (
        [*SHUT, ("end", MSG_CHANNEL_CLOSE, 0, b""), ("adjust", 0, 9)],
        ended("Channel not open", "Invalid channel number 0 received"),
    ),
    "leave to send more than can be counted is counted": (
        [*SHUT, ("adjust", 0, 2**32 - 1), ("adjust", 0, 2**32 - 1), ("act", 0, "write", 9)],
        sent(DATA),
    ),
    "what is unsent goes before the end of the stream": (
        [*SHUT, ("act", 0, "write", 3000), ("act", 0, "write_eof", 0), ("adjust", 0, 9999)],
        sent(DATA, DATA, DATA, MSG_CHANNEL_EOF),
    ),
    "an abort drops what is unsent": (
        [*SHUT, ("act", 0, "write", 3000), ("act", 0, "abort", 0), ("adjust", 0, 9999)],
        sent(MSG_CHANNEL_CLOSE),
    ),
    "packets without padding are refused": ([*OPEN, ("padded", 0, 0, 0)], ended("Incomplete packet")),
    "padding longer than the packet is refused": ([*OPEN, ("padded", 0, 255, 6)], ended("Incomplete packet")),
    "the shortest packets of a cipher are handled": (
        [("plain", MSG_REQUEST_SUCCESS, b"")],
        ended("Unexpected global response"),
    ),
    "an answer to a request is heard": ([("ask", b"keepalive@openssh.com", True, b"")], sent(MSG_REQUEST_SUCCESS)),
    "a request without an answer gets none": (
        [("ask", b"keepalive@openssh.com", False, b""), ("say",)],
        lambda found: [kind for kind, _, _ in found["sent"]] == [MSG_DEBUG],
    ),
    "a packet of an unknown type is answered with its number": (
        [("plain", 2, String(b"x")), ("plain", 192, b"abc")],
        lambda found: found["sent"] == [(MSG_UNIMPLEMENTED, UInt32(8), found["sent"][0][2])],
    ),
    "a flipped bit in a length, in a packet and in a tag ends the connection": (
        [*OPEN, ("data", 0, 100, ""), ("flip", 60, 0)],
        ended("MAC verification failed"),
    ),
    "a packet that says it is larger than any may be ends the connection": (
        [("mislead", (1 << 18) + 1, 40)],
        ended("Max packet size exceeded"),
    ),
    "a packet that never comes whole is waited for": ([("mislead", 1 << 18, 40)], lambda found: found["end"] is None),
    "data between a client's KEXINIT and its keys is handled afterwards": (
        [*OPEN, ("data", 0, 3, ""), ("kexinit", GCM), ("data", 0, 4, ""), ("exchange", GCM, 3, 1), ("data", 0, 5, "")],
        heard(("data", filling(3)), ("data", filling(4)), ("data", filling(5))),
    ),
    "a wrong guess at the key exchange is passed over": (
        [*OPEN, ("kexinit", GCM, True), ("data", 0, 4, ""), ("exchange", GCM, 3, 1), ("data", 0, 5, "")],
        heard(("data", filling(4)), ("data", filling(5))),
    ),
    "what is written during a key exchange is sent after it": (
        [*OPEN, ("kexinit", CHACHA), ("feed", 0, 1), ("idle",), ("act", 0, "write", 9), ("exchange", CHACHA, 0, 1)],
        sent(MSG_NEWKEYS, DATA),
    ),
    "a connection goes from one cipher to the next and back": (
        [*OPEN, *(step for cipher in (CHACHA, CTR, GCM, CTR, CHACHA, GCM)
                  for step in (("exchange", cipher, 2, 2), ("data", 0, 3, ""), ("act", 0, "write", 3)))],
        heard(*[("data", filling(3))] * 6),
    ),
    "keys that are due to be changed are changed before the next packet": (
        [*OPEN, ("rekey_due",), ("act", 0, "write", 9), ("exchange", GCM, 0, 1)],
        sent(MSG_KEXINIT, KEX_ECDH_REPLY, MSG_NEWKEYS, DATA),
    ),
    "a second key exchange before the first has ended ends the connection": (
        [("kexinit", GCM), ("kexinit", GCM)],
        ended("Key exchange already in progress"),
    ),
    "a client that hangs up takes its channels with it": ([*OPEN, ("hang_up", "eof")], heard(("lost",))),
    "a session's data is no concern of the lean path": (
        [("session",), ("feed", 0, 1), ("idle",), ("data", 0, 5, ""), ("end", MSG_CHANNEL_EOF, 0, b"")],
        lambda found: found["end"] is None and len(found["channels"]) == 1,
    ),
}  # fmt: skip


@CIPHERS
@pytest.mark.parametrize("cuts", [0, 2, -1], ids=["whole", "cut", "byte by byte"])
@pytest.mark.parametrize("case", CASES)
def test_each_of_these_is_so_on_both_paths(play: Any, case: str, cipher: bytes, cuts: int) -> None:
    steps, expected = CASES[case]
    setup = Setup(cipher)
    steps = [*steps, ("feed", cuts, 1)]

    differing = differences(play, setup, steps)
    stock, _ = play(setup, steps)

    assert differing == {}
    assert expected(stock), stock


@CIPHERS
@pytest.mark.parametrize("turns", range(9))
def test_data_that_comes_while_its_channel_opens_is_delivered_once(play: Any, cipher: bytes, turns: int) -> None:
    steps = [("open",), ("idle",), ("confirm", 9, 1024), ("feed", 0, 0), ("spin", turns), ("data", 0, 5, "")]

    differing = differences(play, Setup(cipher), steps)
    _, lean = play(Setup(cipher), steps)

    assert differing == {}
    assert heard(("data", filling(5)))(lean)


@CIPHERS
@pytest.mark.parametrize("over", range(-64, 65, 8))
def test_new_keys_are_asked_for_at_the_same_packet(play: Any, cipher: bytes, over: int) -> None:
    setup = Setup(cipher, rekey_bytes=800 + over)
    steps = [*OPEN, *[("act", 0, "write", 80), ("idle",)] * 12]

    differing = differences(play, setup, steps)
    _, lean = play(setup, steps)

    assert differing == {}
    assert lean["sent"][-1][0] == MSG_KEXINIT


@CIPHERS
@pytest.mark.parametrize("length", range(20))
def test_a_packet_too_short_for_any_cipher_is_refused_and_each_other_is_as_on_asyncsshs_path(
    play: Any, cipher: bytes, length: int
) -> None:
    least = 12 if cipher == GCM else 4
    steps = [("sized", 4, MSG_IGNORE, length)]

    differing = differences(play, Setup(cipher), steps)
    _, lean = play(Setup(cipher), steps)

    assert differing == {}
    assert length >= least or ended("MAC verification failed")(lean)


@CIPHERS
@pytest.mark.timeout(0 if EXAMPLES else 120)
def test_whatever_happens_on_a_connection_both_paths_do_the_same(play: Any, cipher: bytes) -> None:
    for seed in range(SEEDED):
        author = Author(random.Random(seed))
        setup = author.setup(cipher)
        assert_alike(play, setup, author.script(author.rng.choice([5, 20, 60])))


@CIPHERS
@pytest.mark.timeout(0 if EXAMPLES else 120)
def test_no_script_that_is_searched_for_makes_the_paths_differ(play: Any, cipher: bytes) -> None:
    @settings(max_examples=GUIDED, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.randoms(use_true_random=False))
    def search(rng: random.Random) -> None:
        author = Author(rng)
        setup = author.setup(cipher)
        assert_alike(play, setup, author.script(15))

    search()


@CIPHERS
def test_a_flood_of_single_octets_to_a_paused_receiver_takes_turns_and_is_kept_in_few_pieces(cipher: bytes) -> None:
    octets = 40_000

    async def flood() -> tuple[float, int, int]:
        play = Play(Setup(cipher, memory=64 << 20), await server_options())
        for name, *words in [*OPEN, ("act", 0, "pause_reading", 0)]:
            if (result := getattr(play, "do_" + name)(*words)) is not None:
                await result
        play.do_tiny(0, octets)
        conn, loop = play.lean.connection, asyncio.get_running_loop()
        (channel,) = conn._channels.values()
        play.lean.feed(b"".join(play.batch[1]))
        before, longest = loop.time(), 0.0
        while channel._kept < octets and conn._transport is not None:
            await play.spin()
            now = loop.time()
            before, longest = now, max(longest, now - before)
        found = longest, channel._kept, len(channel._recv_buf)
        for side in play.sides:
            side.connection.abort()
        await play.idle()
        return found

    longest, kept, pieces = asyncio.run(flood())

    assert kept == octets
    assert pieces < 5
    assert longest < 50 * connection_module.TURN


def test_the_scripts_reach_what_they_are_for(play: Any) -> None:
    """Or a mistake in the tests could make every connection end at once, and both paths alike."""
    ends: set[str] = set()
    packets: set[int] = set()
    for seed in range(SEEDED):
        author = Author(random.Random(seed))
        setup = author.setup(GCM)
        _, lean = play(setup, author.script(author.rng.choice([5, 20, 60])))
        ends.add(lean["end"][1] if lean["end"] else "lives")
        packets |= {kind for kind, _, _ in lean["sent"]}

    assert ends >= {
        "lives",
        "None",
        "MAC verification failed",
        "Window exceeded",
        "Channel not open",
    }
    assert packets >= {
        MSG_DISCONNECT, MSG_UNIMPLEMENTED, MSG_KEXINIT, MSG_NEWKEYS, MSG_REQUEST_SUCCESS, MSG_CHANNEL_DATA,
        MSG_CHANNEL_EOF, MSG_CHANNEL_CLOSE, MSG_CHANNEL_WINDOW_ADJUST,
    }  # fmt: skip
