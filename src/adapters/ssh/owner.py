"""One client: who it is, the tunnels it holds, and what its sessions are told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import monotonic, time
from typing import TYPE_CHECKING

import asyncssh
import structlog

from tunnel_server.adapters.ssh.session import Session, SessionChannel
from tunnel_server.domain.admission import Accept, Reject
from tunnel_server.domain.errors import DuplicateForward, InvalidPublicKey, TunnelServerError
from tunnel_server.domain.identity import ClientId, Thumbprint
from tunnel_server.domain.printable import printable
from tunnel_server.domain.tunnel import Client, Tunnel

if TYPE_CHECKING:
    from tunnel_server.adapters.ssh.connection import Connection
    from tunnel_server.adapters.ssh.lobby import Lobby
    from tunnel_server.domain.admission import Certificate
    from tunnel_server.domain.metrics import Metrics
    from tunnel_server.domain.naming import BaseUrl
    from tunnel_server.domain.ports import TunnelDesk
    from tunnel_server.domain.rules import ClientPolicies, CommandResult, Commands

MAX_REJECTED = 6  # keys of one connection that policies reject, as many as OpenSSH's MaxAuthTries
QUIET = 1.0  # seconds between log lines on the forwards of a client that asks and asks
MAX_REMEMBERED = 20  # refusals kept for a session that opens later
TCP_FORWARD_REFUSED = "only named forwards are served: use -R /name:host:port, with a leading slash"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class House:
    """The rules that each client meets."""

    clients: ClientPolicies
    commands: Commands
    max_sessions: int


class Owner(asyncssh.SSHServer):
    """Translates asyncssh's callbacks for one connection; the desk decides."""

    def __init__(
        self,
        desk: TunnelDesk,
        house: House,
        metrics: Metrics,
        base: BaseUrl,
        lobby: Lobby,
    ) -> None:
        self.desk = desk
        self.base = base
        self.commands = house.commands
        self._clients = house.clients
        self._max_sessions = house.max_sessions
        self._metrics = metrics
        self._lobby = lobby
        self._rejected = self._refused_times = self._unsaid = 0
        self._quiet_until = 0.0
        self._admitted: tuple[Client, Accept] | None = None
        self._refusals: list[str] = []
        self._sessions: list[Session] = []
        self._by_request: dict[str, Tunnel] = {}
        self.client: Client | None = None
        self.connection: Connection
        self.log = log

    # the connection

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.connection = conn  # type: ignore[assignment]
        self.log = log.bind(connection=f"{id(self):x}", address=self.connection.peer_address)
        self._lobby.arrived(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lobby.left(self)
        for tunnel in self.tunnels():
            self._ended(tunnel)
        self._by_request.clear()
        if self.client is None:
            self._metrics.login("failed")
            self.log.debug("client.rejected", reason=str(exc) if exc else "closed")
            return
        self._metrics.client_disconnected(str(self.client.id))
        self.log.info("client.disconnected", reason=str(exc) if exc else "closed")

    # authentication: public keys and nothing else

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Accept any key that can name a client; its signature is checked after this."""
        try:
            Thumbprint.from_public_key(key.public_data)
        except InvalidPublicKey:
            return False
        return True

    async def admit(self, user: str, key: bytes, certificate: Certificate | None) -> bool:
        """Ask the policies whether the owner of ``key``, whose signature is good, may log in."""
        client = Client(
            id=ClientId.from_public_key(key),
            thumbprint=Thumbprint.from_public_key(key),
            user=user,
            address=self.connection.peer_address,
            public_key=key,
        )
        answer = await self._clients.admit(client, certificate)
        if self.connection.closed:
            return False
        if isinstance(answer, Accept) and answer.expires_at <= time():
            answer = Reject("what would let this key in has expired")
        if isinstance(answer, Accept):
            self._admitted = replace(client, attributes=answer.attributes), answer
            return True
        self._reject(client, answer)
        return False

    def _reject(self, client: Client, answer: Reject) -> None:
        """Say why: while somebody logs in that is what a banner is for (RFC 4252 §5.4)."""
        self._rejected += 1
        self._metrics.login("rejected")
        reason = printable(answer.reason)
        self.log.warning("client.refused", client_id=str(client.id), user=client.user, reason=reason)
        self.connection.send_auth_banner(f"{reason}\r\n")
        if self._rejected >= MAX_REJECTED:
            self.connection.disconnect(asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "too many keys were refused")

    def auth_completed(self) -> None:
        # Synchronous on purpose: asyncssh serves forwards while it awaits an asynchronous one.
        assert self._admitted is not None
        self.client, accepted = self._admitted
        self._lobby.admitted(self)
        self.connection.watch()
        self.connection.leave_at(accepted.expires_at)
        self._metrics.login("accepted")
        self._metrics.client_connected(str(self.client.id))
        self.log = self.log.bind(client_id=str(self.client.id), user=self.client.user)
        told = self.connection.get_extra_info
        self.log.info("client.connected", version=str(told("client_version", "")), cipher=str(told("send_cipher", "")))

    # forwards

    def tunnels(self) -> list[Tunnel]:
        """Return the connection's live tunnels in the order they were opened."""
        return self.desk.held_by(self.connection)

    async def open_forward(self, request: str) -> bool:
        """Publish ``request``; when it is refused, say why to whoever listens. Never raises."""
        assert self.client is not None
        try:
            if request in self._by_request:
                raise DuplicateForward("this connection already publishes it")
            tunnel = await self.desk.open(request, self.client, self.connection)
        except TunnelServerError as error:
            self._refused(request, error.code, str(error))
            return False
        except Exception as error:
            self.log.exception("forward.failed", request=printable(request))
            self._refused(request, "internal", f"the server failed: {type(error).__name__}")
            return False
        self._by_request[request] = tunnel
        self.log.info("tunnel.opened", label=tunnel.label, request=request)
        return True

    def forward_announced(self, request: str) -> None:
        """Tell the sessions the URL, now that the client knows the forward is accepted."""
        tunnel = self._by_request.get(request)
        if tunnel is not None:
            for session in self._sessions:
                session.tunnel_opened(self.base.tunnel_url(tunnel.label))

    def cancel_forward(self, request: str) -> bool:
        """Close the tunnel of ``request``; false if there is none."""
        tunnel = self._by_request.pop(request, None)
        if tunnel is None:
            return False
        self._ended(tunnel)
        return True

    def close_tunnels(self) -> None:
        """Close every tunnel of this connection."""
        for tunnel in self.tunnels():
            self._ended(tunnel)
        self._by_request.clear()

    def close_tunnel(self, tunnel: Tunnel, reason: str) -> None:
        """Close one tunnel of this connection, and say why to whoever listens."""
        if tunnel not in self.tunnels():
            return
        self._by_request.pop(tunnel.request.text, None)
        self._ended(tunnel)
        line = f"tunnel {printable(tunnel.request.text)} closed: {printable(reason)}"
        for session in self._sessions:
            session.complain(line)
        if not self._sessions and not self.connection.closed:
            self.connection.send_debug(line)

    def forward_is_not_text(self, path: bytes) -> None:
        """Refuse a forward whose name is not UTF-8."""
        self._refused(repr(path[:80]), "forward.invalid", "the name is not UTF-8")

    def refuse_tcp_forward(self) -> None:
        """Refuse a TCP port forward, which would claim a port of this machine."""
        self._refused("(TCP port)", "forward.tcp", TCP_FORWARD_REFUSED)

    def _ended(self, tunnel: Tunnel) -> None:
        self.desk.close(tunnel)
        self.log.info("tunnel.closed", label=tunnel.label)

    def _refused(self, request: str, code: str, reason: str) -> None:
        self._metrics.forward_rejected(code)
        request, reason = printable(request), printable(reason)
        self._log_refusal(request, code, reason)
        line = f"forward {request} refused: {reason}"
        self._refusals = [*self._refusals[1 - MAX_REMEMBERED :], line]
        for session in self._sessions:
            session.complain(line)
        if not self._sessions and not self.connection.closed:
            self.connection.send_debug(line)

    def _log_refusal(self, request: str, code: str, reason: str) -> None:
        """Log the first of them, then one a second: a client decides how often that is."""
        self._refused_times += 1
        if self._refused_times > MAX_REMEMBERED and monotonic() < self._quiet_until:
            self._unsaid += 1
            return
        self.log.warning("tunnel.refused", request=request, code=code, reason=reason, unsaid=self._unsaid)
        self._quiet_until, self._unsaid = monotonic() + QUIET, 0

    # sessions

    async def url(self, name: str) -> str:
        """Return the URL that this client would get for ``name``, see :meth:`TunnelDesk.url`."""
        assert self.client is not None
        return await self.desk.url(name, self.client)

    async def run(self, words: list[str]) -> CommandResult:
        """Run a command of a plugin's."""
        assert self.client is not None
        return await self.commands.run(words, self.client, self.tunnels())

    def session_requested(self) -> tuple[SessionChannel, Session] | bool:
        if len(self._sessions) >= self._max_sessions:
            self.log.warning("session.refused", reason="too many sessions")
            return False
        session = Session(self)
        self._sessions.append(session)
        return SessionChannel(self.connection), session

    def session_closed(self, session: Session) -> None:
        """Forget ``session``."""
        if session in self._sessions:
            self._sessions.remove(session)

    def refusals(self) -> list[str]:
        """Return the latest refusals, oldest first, for a session that opened after them."""
        return list(self._refusals)

    def tell(self, line: str) -> None:
        """Print ``line`` on the standard error of every session."""
        for session in list(self._sessions):
            session.complain(line)

    def farewell(self, reason: str) -> None:
        """Tell every session that the server leaves."""
        for session in list(self._sessions):
            session.farewell(reason)
