"""One ``forwarded-streamlocal@openssh.com`` channel: its window, and its receiver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncssh
import structlog
from asyncssh.constants import MSG_CHANNEL_WINDOW_ADJUST
from asyncssh.packet import UInt32

from tunnel_server.domain.ports import Channel, ChannelReceiver

if TYPE_CHECKING:
    from tunnel_server.adapters.ssh.connection import Connection

WRITE_BUFFER = 128 * 1024  # bytes a channel holds beyond its window before its receiver is paused
PACKET = 32 * 1024  # bytes of data a client may send in one packet; OpenSSH sends no more anyway
MIN_PACKET = 1024  # bytes a client has to take in one packet: one that takes a single byte would keep the loop busy
PIECE = 32 * 1024  # bytes up to which small pieces that have to wait, either way, are put together

log = structlog.get_logger()


class TunnelChannel(asyncssh.SSHUNIXChannel[bytes]):
    """asyncssh's channel with a window that follows :class:`tunnel_server.domain.windows.Windows`.

    What the client was given leave to send and what is kept for a paused receiver are together never more than
    the window: asyncssh would promise a whole new window while the old one is still being read.
    """

    def __init__(self, connection: Connection, window: int) -> None:
        super().__init__(connection, connection.loop, None, "strict", window, PACKET)
        self._windows = connection.windows
        self._window = window
        self._kept = 0  # bytes received for a paused receiver
        self._adjusted_at = 0.0  # loop time

    def _accept_data(self, data: bytes, datatype: asyncssh.DataType = None) -> None:
        if not data or self._send_state in ("close_pending", "closed"):
            return
        self._recv_window -= len(data)
        if self._recv_paused:
            self._keep(data)
        else:
            self._deliver_data(data, datatype)

    def _keep(self, data: bytes) -> None:
        """Keep what a paused receiver is not to see yet; a flood of tiny packets makes few pieces all the same."""
        self._kept += len(data)
        last = self._recv_buf[-1][0] if self._recv_buf else None
        if isinstance(last, bytearray) and len(last) < PIECE:
            last += data
        else:
            self._recv_buf.append((bytearray(data), None))  # type: ignore[arg-type]

    def _flush_recv_buf(self, exc: Exception | None = None) -> None:
        while self._recv_buf and not self._recv_paused:
            data, datatype = self._recv_buf.pop(0)
            self._kept -= len(data)
            self._deliver_data(bytes(data), datatype)
        super()._flush_recv_buf(exc)  # what follows the data: the end of the stream, or of the channel

    def _deliver_data(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if self._recv_window + self._kept < self._window >> 1:
            self._replenish()
        if self._session is not None:
            self._session.data_received(data, datatype)

    def _replenish(self) -> None:
        """Give the client leave to send until the window is full again, or what the window is to be from now on."""
        now = self._loop.time()
        self._window = self._windows.next(self._window, self._recv_window + self._kept, now - self._adjusted_at)
        self._adjusted_at = now
        leave = self._window - self._kept
        self.send_packet(MSG_CHANNEL_WINDOW_ADJUST, UInt32(leave - self._recv_window))
        self._recv_window = leave

    def write(self, data: bytes, datatype: asyncssh.DataType = None) -> None:
        """Send ``data``; where some waits for the window already, the two are put together, not sent one by one."""
        last = self._send_buf[-1][0] if self._send_buf and self._send_state == "open" else None
        if isinstance(last, bytearray) and len(last) < PIECE and datatype is None:
            last += data
            self._send_buf_len += len(data)
            self._pause_resume_writing()
        else:
            self._send(data, datatype)

    def _send(self, data: bytes, datatype: asyncssh.DataType) -> None:
        super().write(data, datatype)

    def _cleanup(self, exc: Exception | None = None) -> None:
        if self._conn is not None:
            self._windows.close(self._window)
        super()._cleanup(exc)


class UpstreamChannel(Channel, asyncssh.SSHUNIXSession[bytes]):
    """Joins an asyncssh channel and its receiver with nothing in between.

    Writing pauses for either of two reasons: the channel's window is used up, or the whole
    connection's socket takes no more (asyncssh has no back-pressure of its own there).

    An error in the receiver ends this channel. asyncssh would end the client's whole connection.
    """

    def __init__(self, receiver: ChannelReceiver, connection: Connection) -> None:
        self._receiver = receiver
        self._connection = connection
        self._channel: asyncssh.SSHUNIXChannel[bytes] | None = None
        self._pauses = 0

    # asyncssh calls these

    def connection_made(self, chan: asyncssh.SSHUNIXChannel[bytes]) -> None:
        self._channel = chan
        chan.set_write_buffer_limits(high=WRITE_BUFFER)
        self._connection.add_upstream(self)
        if self._connection.writing_paused:
            self.pause_writing()

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        try:
            self._receiver.data_received(data)
        except Exception:
            self._failed()

    def eof_received(self) -> bool:
        try:
            self._receiver.eof_received()
        except Exception:
            self._failed()
        return True  # the other direction stays open until we close it

    def _failed(self) -> None:
        log.exception("channel.failed")
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.remove_upstream(self)
        self._receiver.connection_lost()

    def pause_writing(self) -> None:
        self._pauses += 1
        if self._pauses == 1:
            self._receiver.pause_writing()

    def resume_writing(self) -> None:
        self._pauses -= 1
        if self._pauses == 0:
            self._receiver.resume_writing()

    @property
    def takes_tiny_packets(self) -> bool:
        """Whether the client takes less in one packet than is good for others."""
        assert self._channel is not None
        return self._channel._send_pktsize < MIN_PACKET

    # the receiver calls these

    def write(self, data: bytes) -> None:
        channel = self._channel
        assert channel is not None
        if channel._send_state == "open":
            channel.write(data)

    def write_eof(self) -> None:
        assert self._channel is not None
        self._channel.write_eof()

    def pause_reading(self) -> None:
        assert self._channel is not None
        self._channel.pause_reading()

    def resume_reading(self) -> None:
        assert self._channel is not None
        self._channel.resume_reading()

    def close(self) -> None:
        assert self._channel is not None
        self._channel.close()

    def abort(self) -> None:
        assert self._channel is not None
        self._channel.abort()
