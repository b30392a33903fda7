"""One ``forwarded-streamlocal@openssh.com`` channel, bound to its receiver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncssh
import structlog

from tunnel_server.domain.ports import Channel, ChannelReceiver

if TYPE_CHECKING:
    from tunnel_server.adapters.ssh.connection import Connection

WRITE_BUFFER = 128 * 1024  # bytes a channel holds beyond its window before its receiver is paused

log = structlog.get_logger()


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

    # the receiver calls these

    def write(self, data: bytes) -> None:
        assert self._channel is not None
        if not self._channel.is_closing():
            self._channel.write(data)

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
