"""The SSH port: accepts connections, bounds those that have not logged in, hangs up at the end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import asyncssh

from tunnel_server.adapters.ssh.connection import Connection
from tunnel_server.adapters.ssh.hostkey import load_host_key
from tunnel_server.adapters.ssh.lean import LeanConnection, LeanSocket, takes_lean_path
from tunnel_server.adapters.ssh.lobby import Lobby
from tunnel_server.adapters.ssh.owner import House, Owner
from tunnel_server.domain.ciphers import EVERY, EXCHANGES, MACS
from tunnel_server.domain.printable import printable

if TYPE_CHECKING:
    from tunnel_server.adapters.tls.port import Port
    from tunnel_server.domain.metrics import Metrics
    from tunnel_server.domain.naming import BaseUrl
    from tunnel_server.domain.ports import TunnelDesk
    from tunnel_server.domain.rules import ClientPolicies, Commands
    from tunnel_server.domain.tunnel import Client, Tunnel

_C = TypeVar("_C", bound=Connection)
Peer = tuple[str, int] | None
SshProtocol = Connection | LeanSocket

STOPPING = "the server is stopping"
LEAVE_WITHIN = 2.0  # seconds a client has to take its goodbye
UNSENT = 128 * 1024  # bytes, see `Connection.unsent`
REKEY_BYTES = 1 << 30

# RFC 4253 §4.2 allows no hyphen here. Node's ssh2, and so Preevy's agent, asks for streamlocal forwards only of
# servers whose version is OpenSSH's from 5 on or holds two digits side by side: hence the digits.
SOFTWARE_VERSION = "tunnelserver_00"


@dataclass(frozen=True, slots=True)
class SshLimits:
    """Times in seconds, sizes in octets; see docs/reference/settings.md."""

    login_timeout: float = 30.0
    keepalive_interval: float = 10.0
    keepalive_count_max: int = 3
    probe_timeout: float = 5.0
    channel_open_timeout: float = 10.0
    max_unauthenticated: int = 500
    max_sessions: int = 10
    ciphers: tuple[bytes, ...] = ()
    lean: bool = True
    channel_memory: int = 64 << 20  # octets


class SshListener:
    """Listens while entered. ``stop_accepting`` closes the port only; leaving hangs up on every client.

    Raises:
        ListenerFailed: on entering, when the port cannot be had.
        InvalidHostKey: on entering, when there is no host key to be had.
    """

    def __init__(
        self,
        desk: TunnelDesk,
        policies: tuple[ClientPolicies, Commands],
        metrics: Metrics,
        base: BaseUrl,
        limits: SshLimits,
        port: Port,
        host_key: tuple[Path, str | None],
    ) -> None:
        self._desk = desk
        self._house = House(*policies, limits.max_sessions)
        self._metrics = metrics
        self._base = base
        self._limits = limits
        self._port = port
        self._host_key = host_key
        self._lean = False
        self._lobby = Lobby(limits.max_unauthenticated)

    @property
    def port(self) -> int:
        """The port listened on, also where the system chose it."""
        return self._port.number

    async def __aenter__(self) -> Self:
        self._offered = await self._options()
        self._lean = takes_lean_path(self._limits.lean)
        self._metrics.packet_path(self._lean)
        await self._port.open(self.protocol)
        return self

    def protocol(self, peer: Peer = None, *, raw: bool = True) -> SshProtocol:
        """Return the protocol of a new client's connection; ``peer`` is its address, if a proxy told it.

        ``raw`` tells that its transport is the socket's own, and not one inside TLS.
        """
        loop = asyncio.get_running_loop()
        if not self._lean:
            return self._limited(Connection(loop, self._offered), peer)
        connection = self._limited(LeanConnection(loop, self._offered), peer)
        return LeanSocket(connection) if raw else connection

    def _limited(self, connection: _C, peer: Peer) -> _C:
        connection.told_peer = peer
        connection.unsent = UNSENT
        connection.keepalive_interval = self._limits.keepalive_interval
        connection.keepalive_count_max = self._limits.keepalive_count_max
        connection.probe_timeout = self._limits.probe_timeout
        connection.channel_timeout = self._limits.channel_open_timeout
        connection.channel_memory = self._limits.channel_memory
        connection.fixed_ciphers = self._limits.ciphers
        return connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_accepting()
        for owner in list(self._lobby.owners):
            owner.farewell(STOPPING)
            owner.connection.disconnect(asyncssh.DISC_BY_APPLICATION, STOPPING)
        leaving = [asyncio.ensure_future(owner.connection.wait_closed()) for owner in self._lobby.owners]
        if leaving:
            _, late = await asyncio.wait(leaving, timeout=LEAVE_WITHIN)
            for task in late:
                task.cancel()
        for owner in list(self._lobby.owners):
            owner.connection.abort()

    def stop_accepting(self) -> None:
        """Close the port; connections stay."""
        self._port.close()

    def tell(self, line: str) -> None:
        """Print ``line`` on the standard error of every session."""
        for owner in list(self._lobby.owners):
            owner.tell(line)

    def clients(self) -> list[Client]:
        """Return who is logged in, once for each connection."""
        return [owner.client for owner in self._lobby.owners if owner.client is not None]

    def disconnect(self, client: Client, reason: str) -> None:
        """Hang up on a client. Safe to repeat."""
        for owner in list(self._lobby.owners):
            if owner.client is client:
                owner.farewell(printable(reason))
                owner.connection.close(printable(reason))

    def close_tunnel(self, tunnel: Tunnel, reason: str) -> None:
        """Close a tunnel. Safe to repeat."""
        for owner in list(self._lobby.owners):
            if owner.connection is tunnel.transport:
                owner.close_tunnel(tunnel, reason)

    async def _options(self) -> asyncssh.SSHServerConnectionOptions:
        key = load_host_key(*self._host_key)
        supported = set(asyncssh.kex.get_kex_algs())
        options: asyncssh.SSHServerConnectionOptions = await asyncssh.SSHServerConnectionOptions.construct(
            None,
            config=[],
            server_factory=self._new_owner,
            server_host_keys=[key],
            encryption_algs=[alg.decode() for alg in EVERY],
            kex_algs=[alg.decode() for alg in EXCHANGES if alg in supported],
            mac_algs=[alg.decode() for alg in MACS],
            compression_algs=None,
            gss_host=None,
            password_auth=False,
            kbdint_auth=False,
            host_based_auth=False,
            public_key_auth=True,
            agent_forwarding=False,
            x11_forwarding=False,
            allow_scp=False,
            line_editor=False,
            encoding=None,
            server_version=SOFTWARE_VERSION,
            tcp_keepalive=True,
            utf8_decode_errors="replace",
            rekey_bytes=REKEY_BYTES,
            login_timeout=self._limits.login_timeout,
            keepalive_interval=0,  # the connection watches by itself
        )
        return options

    def _new_owner(self) -> Owner:
        return Owner(self._desk, self._house, self._metrics, self._base, self._lobby)
