"""The lean packet path: what asyncssh does with each packet, in a tenth of the steps.

asyncssh slices its input per packet, wraps each packet in an object, dispatches it over two tables, and logs it.
Here the received bytes are walked by offset where they lie; a packet of channel data goes straight to its channel, a
window adjustment straight to the channel's count; and what is sent within one turn of the loop leaves in one write.
Everything else - requests, key exchanges, errors - is handed to asyncssh opened, so its rules stay the only ones.
What comes before a client has logged in, and any cipher but the two AEAD ones, never gets here.

This leans on asyncssh's insides, and so on the versions in :data:`TESTED`; with another the server serves all clients
by asyncssh's own path.
"""

from __future__ import annotations

import asyncio
import os
from struct import Struct
from time import monotonic, perf_counter
from typing import Any

import asyncssh
import structlog
from asyncssh.constants import MSG_CHANNEL_DATA, MSG_CHANNEL_WINDOW_ADJUST, MSG_USERAUTH_LAST
from asyncssh.encryption import ChachaEncryption, Encryption, GCMEncryption
from asyncssh.packet import SSHPacketLogger

from tunnel_server.adapters.ssh.aead import TAG, ChachaCipher, GcmCipher, PacketCipher
from tunnel_server.adapters.ssh.channel import PIECE, TunnelChannel
from tunnel_server.adapters.ssh.connection import TURN, Connection

TESTED = frozenset({"2.24.1"})  # of asyncssh; read its changes to connection.py and channel.py before adding

READ_AT_ONCE = 256 * 1024  # bytes taken from a socket in one call
MAX_KEPT = 512 * 1024  # bytes of a packet that has not come whole; a packet may have half of that
SEND_NOW = 64 * 1024  # bytes sent within a turn that do not wait for its end

_WRAP = 0xFFFFFFFF  # of the packets' sequence numbers
_DATA_AT = 10  # where the data begins in an opened CHANNEL_DATA
_HEAD = Struct(">BBII").unpack_from  # its padding's length, type, channel and the data's size
_DATA_HEAD = Struct(">BBII").pack
_PAIR = Struct(">II").pack
_LENGTH = Struct(">I").pack

# An AEAD cipher hides the padding from everybody but the peer, so each size is drawn once and not for every packet.
_PADDING = [os.urandom(size) for size in range(GcmCipher.block + 4)]

log = structlog.get_logger()

# Where every socket is read into: a read is handled, or what is left of it copied, before the next begins.
_received = memoryview(bytearray(MAX_KEPT + READ_AT_ONCE))


def takes_lean_path(wanted: bool) -> bool:
    """Tell whether packets take the lean path: if ``wanted``, and tested with the asyncssh installed. Else warn why."""
    if not wanted:
        reason = "the setting lean_ssh is false"
    elif asyncssh.__version__ not in TESTED:
        reason = f"not tested with asyncssh {asyncssh.__version__}, only with {', '.join(sorted(TESTED))}"
    else:
        return True
    log.warning("ssh.lean-path-off", reason=reason)
    return False


class LeanConnection(Connection):
    """A client's connection that takes the lean path wherever its ciphers allow it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reads_lean = False  # what is being read, which lies behind the packet that was cut before
        self._queued: list[bytes] = []
        self._queued_size = 0

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        super().send_newkeys(k, h)
        self._send_encryption = _lean(self._send_encryption)
        self._next_recv_encryption = _lean(self._next_recv_encryption)

    def create_unix_channel(self, *args: Any, **kwargs: Any) -> TunnelChannel:
        return self._with_window(LeanChannel)

    # receiving

    def get_buffer(self) -> memoryview:
        """Return where the socket is to be read into, see :class:`LeanSocket`."""
        kept = self._inpbuf
        self._reads_lean = self._is_lean() and not self._waits_turn and len(kept) <= MAX_KEPT
        if not kept or not self._reads_lean:
            return _received[:READ_AT_ONCE]
        at = len(kept)
        _received[:at] = kept
        return _received[at : at + READ_AT_ONCE]

    def buffer_updated(self, count: int) -> None:
        """Handle the ``count`` bytes read there."""
        if self._reads_lean:
            received = _received[: len(self._inpbuf) + count]
            self._inpbuf = b""
            self._handle(self._walk, received)
            self._heard()
        else:
            self.data_received(bytes(_received[:count]))

    def _handle_received(self) -> None:
        if self._is_lean():
            received, self._inpbuf = self._inpbuf, b""
            self._walk(memoryview(received))
        else:
            super()._handle_received()

    def _is_lean(self) -> bool:
        """Tell whether the bytes that come next are a packet for the lean path, and not in the midst of one."""
        return (
            self._auth_complete
            and isinstance(self._recv_encryption, PacketCipher)
            and self._recv_handler == self._recv_pkthdr
            and self._decompressor is None
        )

    def _walk(self, received: memoryview) -> None:
        """Handle the packets in ``received``; what a cut packet or the end of a turn leaves of it is kept."""
        deadline = perf_counter() + TURN
        cipher: Any = self._recv_encryption
        at, size = 0, len(received)
        while size - at >= cipher.block and self._transport is not None:
            sequence = self._recv_seq
            length = cipher.length(sequence, received, at)
            if length > self._max_recv_pktlen:
                raise asyncssh.ProtocolError("Max packet size exceeded")
            end = at + 4 + length + TAG
            if end > size:
                break
            packet = cipher.open(sequence, received, at, end) if length >= cipher.shortest else None
            if packet is None:
                raise asyncssh.MACError("MAC verification failed")
            at = end
            if not self._taken_by_channel(packet, sequence):
                self._hand_over(packet)
                if not self._is_lean():  # a key exchange is under way, or its keys are for another cipher
                    self._inpbuf = bytes(received[at:])
                    super()._handle_received()
                    return
                cipher = self._recv_encryption
            if perf_counter() > deadline and at < size:
                self._inpbuf = bytes(received[at:])
                self._wait_turn()
                return
        if at < size:
            self._inpbuf = bytes(received[at:])

    def _taken_by_channel(self, packet: bytes, sequence: int) -> bool:
        """Do with a packet of data or a window adjustment what asyncssh would; false for all others, and bad ones."""
        if len(packet) < _DATA_AT:
            return False
        padding, kind, number, count = _HEAD(packet)
        if kind == MSG_CHANNEL_DATA:
            channel = self._channels.get(number)
            if (
                type(channel) is not LeanChannel
                or channel._recv_state != "open"
                or count > channel._recv_window
                or len(packet) != _DATA_AT + count + padding
                or not padding
            ):
                return False
            self._recv_seq = (sequence + 1) & _WRAP
            self._auth_final = True
            channel.take(packet[_DATA_AT:-padding])
            return True
        if kind == MSG_CHANNEL_WINDOW_ADJUST:
            channel = self._channels.get(number)
            if (
                type(channel) is not LeanChannel
                or channel._recv_state not in ("open", "eof_pending", "eof")
                or len(packet) != _DATA_AT + padding
                or not padding
            ):
                return False
            self._recv_seq = (sequence + 1) & _WRAP
            self._auth_final = True
            channel._send_window += count
            channel._flush_send_buf()
            return True
        return False

    def _hand_over(self, packet: bytes) -> None:
        """Let asyncssh handle a packet that is open already."""
        cipher, opened = self._recv_encryption, _Opened(packet)
        self._recv_encryption = opened
        self._pktlen = self._recv_blocksize - self._recv_macsize - 4  # so that it misses no byte of the packet
        try:
            self._recv_packet()
        finally:
            if self._recv_encryption is opened:  # and has no new keys
                self._recv_encryption = cipher

    # sending

    def send_packet(self, pkttype: int, *args: bytes, handler: SSHPacketLogger | None = None) -> None:
        if pkttype > MSG_USERAUTH_LAST and self._seals_lean():
            payload = b"".join(args)
            padding = self._padding(len(payload) + 2)
            self._seal(b"%c%c%b%b" % (padding, pkttype, payload, _PADDING[padding]))
        else:
            super().send_packet(pkttype, *args, handler=handler)

    def send_data(self, number: int, data: bytes, size: int) -> None:
        """Send ``data``, of ``size`` bytes, to the client's channel ``number``."""
        if self._seals_lean():
            padding = self._padding(size + _DATA_AT)
            self._seal(b"".join((_DATA_HEAD(padding, MSG_CHANNEL_DATA, number, size), data, _PADDING[padding])))
        else:
            self.send_packet(MSG_CHANNEL_DATA, _PAIR(number, size), bytes(data))

    def _seals_lean(self) -> bool:
        """Tell whether a packet may go out: the keys are ours, and not due to be changed."""
        return (
            self._kex_complete
            and self._rekey_bytes_sent < self._rekey_bytes
            and isinstance(self._send_encryption, PacketCipher)
            and self._auth_complete
            and not (self._rekey_seconds and monotonic() >= self._rekey_time)
            and self._compressor is None
        )

    def _padding(self, size: int) -> int:
        """Return how much to add to ``size`` bytes, at least 4 (RFC 4253 §6)."""
        block: int = self._send_encryption.block  # type: ignore[union-attr]
        padding = -size % block
        return padding if padding >= 4 else padding + block

    def _seal(self, body: bytes) -> None:
        """Encrypt a packet, its length still to be put before it, and queue it until the turn's end."""
        cipher: Any = self._send_encryption
        length, sequence, queued = len(body), self._send_seq, self._queued
        if not queued:
            self._loop.call_soon(self._send_queued)
        queued += cipher.seal(sequence, _LENGTH(length), body)
        self._send_seq = (sequence + 1) & _WRAP
        self._rekey_bytes_sent += length
        self._queued_size += length
        if self._queued_size > SEND_NOW:
            self._send_queued()

    def _send_queued(self) -> None:
        queued = self._queued
        if queued:
            self._queued = []
            self._queued_size = 0
            if self._transport is not None:
                self._transport.write(b"".join(queued))

    def _send(self, data: bytes) -> None:
        self._send_queued()
        super()._send(data)

    def _force_close(self, exc: Exception | None) -> None:
        self._send_queued()
        super()._force_close(exc)


class LeanChannel(TunnelChannel):
    """A channel that sends what its window allows without copying it, and keeps the rest as it came."""

    def __init__(self, connection: LeanConnection, window: int) -> None:
        super().__init__(connection, window)
        self._connection = connection

    def take(self, data: bytes) -> None:
        """Deliver ``data``, which is within the window: :meth:`_accept_data` with fewer steps."""
        size = len(data)
        if not size or self._send_state in ("close_pending", "closed"):
            return
        self._recv_window -= size
        if self._recv_paused or self._session is None:
            self._keep(data)
            return
        if self._recv_window + self._kept < self._window >> 1:
            self._replenish()
        self._session.data_received(data, None)

    def write(self, data: bytes, datatype: asyncssh.DataType = None) -> None:
        size = len(data)
        if self._send_buf or self._send_state != "open" or datatype is not None or not size:
            super().write(data, datatype)
        elif size > self._send_window or size > self._send_pktsize:
            self._send(data, None)
        else:
            self._send_window -= size
            self._connection.send_data(self._send_chan, data, size)  # type: ignore[arg-type]

    def _send(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if self._send_state != "open" or datatype is not None or not data:
            super()._send(data, datatype)  # which raises, or does nothing
            return
        self._send_buf.append((memoryview(data), None))  # type: ignore[arg-type]
        self._send_buf_len += len(data)
        self._flush_send_buf()

    def _flush_send_buf(self) -> None:
        buffers = self._send_buf
        while buffers and self._send_window:
            data, _ = buffers[0]
            room = min(self._send_window, self._send_pktsize)
            if len(data) > room:
                buffers[0] = (data[room:], None)
                data = data[:room]
            else:
                del buffers[0]
            size = len(data)
            self._send_buf_len -= size
            self._send_window -= size
            self._connection.send_data(self._send_chan, data, size)  # type: ignore[arg-type]
        if buffers and len(buffers[-1][0]) < PIECE and not isinstance(buffers[-1][0], bytearray):
            buffers[-1] = (bytearray(buffers[-1][0]), None)  # small, so that more can be put to it
        super()._flush_send_buf()  # what follows the data: pauses, the end of the stream, or of the channel


class LeanSocket(asyncio.BufferedProtocol):
    """What the loop sees of a lean connection: it reads into one buffer for all, not into a new object each time."""

    __slots__ = ("_connection",)

    def __init__(self, connection: LeanConnection) -> None:
        self._connection = connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._connection.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self._connection.buffer_updated(nbytes)

    def data_received(self, data: bytes) -> None:
        """Take what was received before this became the socket's protocol."""
        self._connection.data_received(data)

    def eof_received(self) -> None:
        self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()


class _Opened(Encryption):
    """Stands in for a cipher while asyncssh handles a packet that is open already."""

    def __init__(self, packet: bytes) -> None:
        self._packet = packet

    def decrypt_packet(self, seq: int, first: bytes, rest: bytes, header_len: int, mac: bytes) -> bytes | None:
        return self._packet


def _lean(cipher: Encryption | None) -> Encryption | None:
    """Return a cipher of ours that goes on where asyncssh's stands; its own, where we have none."""
    if type(cipher) is GCMEncryption:
        return GcmCipher(cipher._cipher._key, cipher._cipher._iv)
    if type(cipher) is ChachaEncryption:
        return ChachaCipher(cipher._cipher._key, cipher._cipher._adkey)
    return cipher
