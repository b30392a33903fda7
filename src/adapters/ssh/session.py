"""A session channel: it answers the server's words and those of plugins, prints URLs, and executes no program."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncssh
from asyncssh.constants import MSG_CHANNEL_REQUEST
from asyncssh.packet import SSHPacket

from tunnel_server.adapters.ssh.channel import MIN_PACKET
from tunnel_server.domain import session as words
from tunnel_server.domain.errors import TunnelServerError
from tunnel_server.domain.printable import printable

if TYPE_CHECKING:
    from tunnel_server.adapters.ssh.connection import Connection
    from tunnel_server.adapters.ssh.owner import Owner
    from tunnel_server.domain.identity import ClientId

CTRL_C, CTRL_D = 0x03, 0x04
MAX_UNREAD = 64 * 1024  # bytes of output a client may leave unread before further lines are dropped
MAX_WAITING_REQUESTS = 32  # requests a client may have waiting on one session
SESSION_WINDOW = 64 * 1024  # bytes; what a session types is thrown away
READ_WITHIN = 0.1  # seconds; OpenSSH drops what standard error still holds when it hears of a failed exec
LEAVE_WITHIN = 2.0  # seconds a client has to hang up after Ctrl-C before we do

MAX_NAMES = 100  # of one tunnel-url
MAX_LINES = 100  # of what a command complains of

NO_TUNNEL_YET = "no tunnel yet; ask for one with: ssh -R /NAME:localhost:PORT ..."


class SessionChannel(asyncssh.SSHServerChannel[bytes]):
    """asyncssh's session channel without its line editor, which swallows Ctrl-C, and keeping no environment."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, connection.loop, True, False, False, 0, 0, None, "strict", SESSION_WINDOW, 32768)

    def process_open(self, send_chan: int, send_window: int, send_pktsize: int, session: Any) -> None:
        if send_pktsize < MIN_PACKET:
            raise asyncssh.ProtocolError(f"a session's maximum packet size is less than {MIN_PACKET} bytes")
        super().process_open(send_chan, send_window, send_pktsize, session)

    def _bounded_request(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        if len(self._request_queue) >= MAX_WAITING_REQUESTS:
            raise asyncssh.ProtocolError(f"more than {MAX_WAITING_REQUESTS} requests waiting on one session")
        self._process_request(pkttype, pktid, packet)

    _packet_handlers = {  # noqa: RUF012 - asyncssh's own form of a dispatch table
        **asyncssh.SSHServerChannel._packet_handlers,
        MSG_CHANNEL_REQUEST: _bounded_request,
    }

    def _process_exec_request(self, packet: SSHPacket) -> bool | None:  # type: ignore[override]
        if super()._process_exec_request(packet):
            return True
        self._loop.call_later(READ_WITHIN, self._refuse_request)
        return None  # the answer follows

    def _refuse_request(self) -> None:
        if self._request_queue and self._conn is not None:  # else the client has gone
            self._report_response(False)

    def _process_env_request(self, packet: SSHPacket) -> bool:
        return False  # nothing is executed, so nothing would read it


class Session(asyncssh.SSHServerSession[bytes]):
    """What one session channel shows."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._channel: SessionChannel | None = None
        self._has_terminal = False
        self._shows_urls = False
        self._started = False
        self._task: asyncio.Task[None] | None = None

    # asyncssh calls these

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan  # type: ignore[assignment]
        for line in self._owner.refusals():
            self.complain(line)

    def pty_requested(self, term_type: str, term_size: object, term_modes: object) -> bool:
        self._has_terminal = True
        return True

    def shell_requested(self) -> bool:
        self._shows_urls = True
        for tunnel in self._owner.tunnels():
            self.tunnel_opened(self._owner.base.tunnel_url(tunnel.label))
        self._task = self._owner.connection.create_task(self._hint())
        return True

    def exec_requested(self, command: str) -> bool:
        try:
            split = words.words(command, self._owner.commands.words())
        except TunnelServerError as error:
            self.complain(str(error))
            return False
        match split[0]:
            case words.HELLO:
                work = self._hello()
            case words.TUNNEL_URL:
                work = self._tunnel_urls(split[1:])
            case _:
                work = self._run(split)
        self._task = self._owner.connection.create_task(work)
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        self.complain(f"no subsystem {subsystem[:40]!r} here: this server only opens tunnels")
        return False

    def session_started(self) -> None:
        self._started = True

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if not self._has_terminal:
            return
        for byte in data:
            if byte in (CTRL_C, CTRL_D):
                self._leave(130 if byte == CTRL_C else 0)
                return

    def signal_received(self, signal: str) -> None:
        if signal in ("HUP", "INT", "TERM", "KILL", "QUIT"):
            self._leave(130)

    def eof_received(self) -> bool:
        return True  # standard input may be /dev/null; the session goes on

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()
        self._owner.session_closed(self)
        self._channel = None

    # what it shows

    def tunnel_opened(self, url: str) -> None:
        """Print ``url`` on a line of its own, unless this session runs a command."""
        if self._shows_urls:
            self._print(url)

    def complain(self, line: str) -> None:
        """Print ``line`` on standard error."""
        self._print(line, asyncssh.EXTENDED_DATA_STDERR)

    def farewell(self, reason: str) -> None:
        """Say why the server hangs up, and end the session."""
        self.complain(reason)
        if self._channel is not None:
            self._channel.exit(0)

    async def _hello(self) -> None:
        await self._owner.connection.requests_settled()
        self._write(words.hello(self._client_id(), self._owner.tunnels(), self._owner.base) + "\r\n")
        if not self._owner.tunnels():
            self._exit(0)

    async def _tunnel_urls(self, names: list[str]) -> None:
        try:
            urls = {name: await self._owner.url(name) for name in names[:MAX_NAMES]}
        except TunnelServerError as error:
            self.complain(printable(str(error)))
            self._exit(1)
            return
        self._write(words.tunnel_urls(urls) + "\r\n")
        self._exit(0)

    async def _run(self, split: list[str]) -> None:
        """Run a command of a plugin's."""
        result = await self._owner.run(split)
        if result.status:
            for line in result.text.splitlines()[:MAX_LINES]:
                self.complain(printable(line))
        elif result.text:
            self._write(result.text.rstrip("\r\n") + "\n")
        self._exit(result.status)

    def _exit(self, status: int) -> None:
        if self._channel is not None:
            self._channel.exit(status)

    async def _hint(self) -> None:
        await self._owner.connection.requests_settled()
        if not self._owner.tunnels() and not self._owner.refusals():
            self.complain(NO_TUNNEL_YET)

    def _leave(self, status: int) -> None:
        """End the session with its tunnels; a client that stays is hung up on."""
        self._owner.close_tunnels()
        if self._channel is not None:
            self._channel.exit(status)
        connection = self._owner.connection
        connection.loop.call_later(LEAVE_WITHIN, connection.close, "the session ended")

    def _client_id(self) -> ClientId:
        assert self._owner.client is not None
        return self._owner.client.id

    def _print(self, line: str, datatype: asyncssh.DataType = None) -> None:
        self._write(line + ("\r\n" if self._has_terminal else "\n"), datatype)

    def _write(self, text: str, datatype: asyncssh.DataType = None) -> None:
        channel = self._channel
        if channel is not None and not channel.is_closing() and channel.get_write_buffer_size() < MAX_UNREAD:
            channel.write(text.encode("utf-8", "replace"), datatype)
