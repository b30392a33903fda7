"""Who comes to the TLS port: finds out what a connection speaks, and gives it to whom it is for."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

import structlog

from tunnel_server.adapters.tls import challenge
from tunnel_server.adapters.tls.proxied import Peer, peer_address, take_over
from tunnel_server.adapters.tls.transport import HANDSHAKE, Begin, TlsTransport, end_of_record
from tunnel_server.adapters.tls.unsaid import Unsaid
from tunnel_server.domain import client_hello
from tunnel_server.domain.arrival import HTTPS, Arrival
from tunnel_server.domain.client_hello import ClientHello
from tunnel_server.domain.demux import SILENT_IS_SSH, Inside, Spoken, inside, spoken
from tunnel_server.domain.errors import NotClientHello
from tunnel_server.domain.routing import without_port
from tunnel_server.domain.share import one_visitor

if TYPE_CHECKING:
    from tunnel_server.adapters.tls.certificates import Certificates, ServerSideTls
    from tunnel_server.adapters.tls.lobby import Lobby
    from tunnel_server.adapters.tls.turns import Turns

UNREADABLE = ClientHello(None, ())
ACME_TLS = challenge.ALPN.encode()

log = structlog.get_logger()


class Inner(Protocol):
    """What takes a connection over, each a protocol whose ``connection_made`` comes next."""

    def ssh(self, peer: Peer, *, raw: bool) -> asyncio.Protocol:
        """Return an SSH client's; ``raw`` if its transport is the socket's own."""

    def visitor(self, arrival: Arrival) -> asyncio.Protocol:
        """Return one of a visitor that speaks HTTP/1.1."""

    def http2(self, arrival: Arrival) -> asyncio.Protocol:
        """Return one of a visitor that speaks HTTP/2."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What all doormen of a port share.

    ``handshakes`` counts how handshakes end, ``timeout`` bounds them in seconds. ``challenge`` gives the context by
    which a CA sees that a server name is ours (RFC 8737), while it asks for one.
    """

    certificates: Certificates
    inner: Inner
    lobby: Lobby
    turns: Turns
    handshakes: Callable[[str], None]
    ssh_names: frozenset[str]
    timeout: float
    challenge: Callable[[str], ssl.SSLContext | None] | None


class Doorman(asyncio.Protocol):
    """The first protocol of a connection, until it is known what is spoken on it, and the guest in the lobby."""

    __slots__ = (
        "_address",
        "_began",
        "_buffer",
        "_gate",
        "_peer",
        "_queued",
        "_tls",
        "_transport",
        "_whole",
        "deadline",
    )

    def __init__(self, gate: Gate, peer: Peer = None) -> None:
        self._gate = gate
        self._peer = peer
        self._buffer = b""
        self._whole = 0  # octets of the buffer that are whole records
        self._tls: TlsTransport | None = None
        self._queued = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._address = one_visitor(self._peer[0] if self._peer else peer_address(transport))
        self._began = asyncio.get_running_loop().time()
        self.deadline = self._began + SILENT_IS_SSH
        self._gate.lobby.arrived(self, self._address)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self.deadline = self._began + self._gate.timeout
        match spoken(self._buffer):
            case Spoken.TLS if len(self._buffer) > HANDSHAKE:
                self._refuse("failed")
            case Spoken.TLS:
                self._on_record()
            case Spoken.SSH:
                self._hand_over(self._gate.inner.ssh(self._peer, raw=True))
            case Spoken.HTTP:
                self._hand_over(self._gate.inner.visitor(Arrival(peer=self._peer, wants_tls=True)))
            case Spoken.NOTHING_KNOWN:
                self._refuse("not_tls")
            case Spoken.UNCLEAR:
                pass

    def connection_lost(self, exc: Exception | None) -> None:
        if self._buffer[:1] == b"\x16" and self in self._gate.lobby:
            self._gate.handshakes("aborted")
        self._gate.lobby.left(self)

    # the lobby calls these

    def overdue(self) -> None:
        if self._tls is None and not self._buffer:
            self._hand_over(self._gate.inner.ssh(self._peer, raw=True))
        else:
            self._refuse("timeout")

    def abort(self) -> None:
        self._refuse("displaced")

    def _refuse(self, outcome: str) -> None:
        self._gate.handshakes(outcome)
        self._leave()
        self._transport.abort()

    # without TLS

    def _hand_over(self, protocol: asyncio.Protocol) -> None:
        self._gate.lobby.left(self)
        take_over(self._transport, protocol, self._buffer)

    # with TLS

    def _on_record(self) -> None:
        """Look at what came once one more record is whole: many small packets shall not cost a look each."""
        before = self._whole
        while end := end_of_record(self._buffer, self._whole):
            self._whole = end
        if self._whole > before:
            self._on_ready()

    def _on_ready(self) -> None:
        if not self._queued:
            self._queued = True
            self._gate.turns.add(self._address, self._step)

    def _step(self) -> None:
        self._queued = False
        if self._transport.is_closing():
            return
        try:
            tls = self._tls or self._begin_tls()
            if tls is not None and tls.handshake():
                self._done(tls)
        except ssl.SSLError as error:
            log.debug("handshake.failed", address=self._address, reason=error.reason or str(error))
            self._gate.handshakes("failed")
            self._leave()
            self._transport.close()  # once the alert is sent
        except Exception:
            log.exception("connection.failed", address=self._address)
            self._refuse("failed")

    def _begin_tls(self) -> TlsTransport | None:
        """Begin as soon as it is known what the client asks for; ``None`` as long as it is not."""
        try:
            hello = client_hello.read(self._buffer)
        except NotClientHello:
            hello = UNREADABLE  # OpenSSL tells the peer what is wrong with it
        if hello is None:
            return None
        received, self._buffer = self._buffer, b""
        tls = TlsTransport.accept(self._transport, self._server_side(hello), self._peer)
        if tls is None:
            self._refuse("no_certificate")
            return None
        self._tls = tls
        self._transport.set_protocol(tls)
        tls.data_received(received)
        tls.ready, tls.lost = self._on_ready, self._on_lost
        return tls

    def _server_side(self, hello: ClientHello) -> Begin:
        if self._gate.challenge is not None and hello.alpn == (ACME_TLS,) and hello.server_name is not None:
            context = self._gate.challenge(hello.server_name)
            if context is not None:
                return partial(context.wrap_bio, server_side=True)
        return partial(self._gate.certificates.begin, server_name=hello.server_name)

    def _on_lost(self) -> None:
        self._gate.lobby.left(self)
        self._gate.handshakes("aborted")

    def _leave(self) -> None:
        """Be a guest no more; what becomes of the connection is not ours to count."""
        if self._tls is not None:
            self._tls.lost = None
        self._gate.lobby.left(self)

    def _done(self, transport: TlsTransport) -> None:
        self._leave()
        self._gate.handshakes("done")
        tls = transport.tls
        if tls.selected_alpn_protocol() == challenge.ALPN:
            transport.close()  # the certificate was the answer
            return
        transport.start(self._inner(cast("ServerSideTls", tls), inside(tls.selected_alpn_protocol())))

    def _inner(self, tls: ServerSideTls, spoken_inside: Inside) -> asyncio.Protocol:
        gate = self._gate
        match spoken_inside:
            case Inside.SSH:
                return gate.inner.ssh(self._peer, raw=False)
            case Inside.HTTP:
                return gate.inner.visitor(self._arrival(tls))
            case Inside.HTTP2:
                return gate.inner.http2(self._arrival(tls))
            case Inside.UNSAID:
                return Unsaid(gate.lobby, self._address, tls.server_name, gate.ssh_names, partial(self._inner, tls))

    def _arrival(self, tls: ServerSideTls) -> Arrival:
        if tls.server_name is None or tls.certificate is None:
            return Arrival(HTTPS, self._peer)
        certificate, asked_for = tls.certificate, tls.server_name

        def serves(host: bytes) -> bool:
            name = without_port(host.decode("ascii")).lower().removesuffix(".")
            return not name or name == asked_for or self._gate.certificates.same(certificate, name)

        return Arrival(HTTPS, self._peer, serves)
