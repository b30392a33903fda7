"""One client's SSH connection: asyncssh's, with its corners rounded off.

asyncssh never holds back a writer whose socket is full, reads on from a client that takes no answers, handles all
that a client sent before anybody else has a turn, and gives each channel the same window for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from math import inf
from time import perf_counter, time
from typing import TYPE_CHECKING, Any, cast

import asyncssh
from asyncssh.constants import MSG_IGNORE
from asyncssh.packet import SSHPacket, SSHPacketLogger

from tunnel_server.adapters.ssh.certificate import checked
from tunnel_server.adapters.ssh.channel import MIN_PACKET, PACKET, TunnelChannel, UpstreamChannel
from tunnel_server.adapters.ssh.requests import RequestingConnection
from tunnel_server.domain.ciphers import AES_GCM, CHACHA20
from tunnel_server.domain.errors import ChannelRefused
from tunnel_server.domain.ports import Channel, ChannelReceiver, Transport
from tunnel_server.domain.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncssh.public_key import SSHOpenSSHCertificate

    from tunnel_server.domain.admission import Certificate

SOCKET_BUFFER = 512 * 1024  # bytes waiting for one client's socket before its writers are paused
UNREAD_LIMIT = 4 * 1024 * 1024  # bytes waiting for one client's socket before we read nothing more from it
MAX_UNHANDLED = 1024 * 1024  # bytes received while a packet before them is still being worked on
TURN = 0.002  # seconds one client's packets may keep the loop before others have their turn
MAX_CHANNELS = 4096  # of one client, with those it has not closed yet
CHANNEL_MEMORY = 64 * 1024 * 1024  # bytes all services of one client may send ahead of their visitors
LOOK_AT_CLOCK = 30.0  # seconds
AEAD_CIPHERS = frozenset({*AES_GCM, *CHACHA20})


class Connection(RequestingConnection, Transport):
    """A client's connection, and the transport of its tunnels."""

    keepalive_interval: float = 10.0
    keepalive_count_max: int = 3
    probe_timeout: float = 5.0
    channel_timeout: float = 10.0
    channel_memory: int = CHANNEL_MEMORY
    verified_key: bytes | None = None
    _shown: tuple[Certificate, bytes] | None = None  # a certificate, and the key inside
    told_peer: tuple[str, int] | None = None  # by a proxy in front
    unsent: int | None = None  # bytes the kernel keeps that it cannot send yet; a small request waits behind them
    writing_paused = False
    _setting_up = True  # no visitor has come yet

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._upstreams: set[UpstreamChannel] = set()
        self._windows: Windows | None = None
        self._heard_at = 0.0
        self._heard_times = 0
        self._heard_when_asked = 0
        self._unanswered = 0
        self._held = False
        self._waits_turn = False
        self._overfull = False
        self._probing: asyncio.Task[bool] | None = None

    # identity

    async def reload_config(self) -> None:
        """Keep the options: asyncssh copies them for each client, since a file could name its user; there is none."""

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        """Ask the policies about the key whose signature was good, and no other: offering a key proves nothing."""
        self._shown = None
        valid = await super().validate_public_key(username, key_data, msg, signature)
        if not valid or not msg:
            return valid
        certificate, key = self._shown or (None, key_data)
        if not await self._owner_of_forwards.admit(username, key, certificate):
            return False
        self.verified_key = key
        return True

    async def _validate_openssh_certificate(self, username: str, cert: SSHOpenSSHCertificate) -> asyncssh.SSHKey | None:
        """Check what can be checked without knowing whom to trust, which the policies do."""
        certificate = checked(cert, self.peer_address)
        key: asyncssh.SSHKey = cert.key
        if certificate is None or not self._owner_of_forwards.validate_public_key(username, key):
            return None
        self._key_options, self._cert_options = {}, None
        key.set_touch_required(True)
        self._shown = certificate, key.public_data
        return key

    async def _finish_userauth(self, begin_auth: bool, method: bytes, packet: SSHPacket) -> None:
        """Handle nothing that comes behind an authentication request before that is decided.

        asyncssh starts to decide it here, and would take what follows for sent too early.
        """
        await super()._finish_userauth(begin_auth, method, packet)
        if self._auth is not None and self._auth.task is not None:
            await asyncio.wait({self._auth.task})

    def leave_at(self, moment: float) -> None:
        """Hang up at ``moment``, in seconds since the epoch."""
        if moment != inf and not self.closed:
            # Looked at again and again: the wall clock may be set, and a timer takes no more than some weeks.
            left = moment - time()
            if left <= 0:
                self.close("what let this client in has expired")
            else:
                self._loop.call_later(min(left, LOOK_AT_CLOCK), self.leave_at, moment)

    # signs of life

    def watch(self) -> None:
        """Ask for a sign of life whenever the client has been silent for an interval; hang up if none comes.

        asyncssh's own keepalive sets a timer anew at every packet; this one looks at a clock reading.
        """
        if self.closed:
            return
        now = self._loop.time()
        silent = now - self._heard_at
        if self._heard_times != self._heard_when_asked:  # not by the clock: an answer may come in the same millisecond
            self._unanswered = 0
        if silent < self.keepalive_interval:
            self._loop.call_later(self.keepalive_interval - silent, self.watch)
        elif self._unanswered >= self.keepalive_count_max:
            self.connection_lost(asyncssh.ConnectionLost("the client does not answer"))
        else:
            self._unanswered += 1
            self._heard_when_asked = self._heard_times
            self._loop.create_task(self._round_trip())
            self._loop.call_later(self.keepalive_interval, self.watch)

    async def _round_trip(self) -> None:
        """Ask the client for any answer, and note how long it took."""
        asked_at = self._loop.time()
        await self._make_global_request(b"keepalive@openssh.com")
        self.windows.measured(self._loop.time() - asked_at)

    # the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).set_write_buffer_limits(high=SOCKET_BUFFER)
        sock = transport.get_extra_info("socket")
        if sock is not None and self.unsent is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, self.unsent)
        super().connection_made(transport)

    def data_received(self, data: bytes, datatype: asyncssh.DataType = None) -> None:
        super().data_received(data)
        self._heard()

    def _heard(self) -> None:
        """Note a sign of life, once what it brought is handled."""
        self._heard_at = self._loop.time()
        self._heard_times += 1
        if self._setting_up:
            self._acknowledge_at_once()
        if self.writing_paused:
            self._hold_a_flood()

    def _acknowledge_at_once(self) -> None:
        """Keep logging in quick: OpenSSH sends small pieces, each held back until the one before is acknowledged.

        Linux delays an acknowledgement by 40 ms, and this option wears off, so it is set after each piece.
        """
        sock = self.get_extra_info("socket")
        if sock is not None and hasattr(socket, "TCP_QUICKACK"):
            with contextlib.suppress(OSError):  # gone meanwhile
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _hold_a_flood(self) -> None:
        """Stop reading from a client that asks and asks, and does not take our answers.

        Data waits for its window and for :meth:`pause_writing`; answers to requests do not.
        """
        transport = self._transport
        if transport is not None and not self._held and transport.get_write_buffer_size() > UNREAD_LIMIT:
            self._held = True
            transport.pause_reading()

    def _recv_data(self) -> None:
        """Handle the packets received, but only for a turn: one that sends tiny ones without end makes nobody wait."""
        if self._waits_turn:
            return
        self._handle(self._handle_received)
        # While asyncssh works on one packet, the others wait here, and the rest in the client's socket.
        if (len(self._inpbuf) > MAX_UNHANDLED) != self._overfull and self._transport is not None:
            self._overfull = not self._overfull
            if self._overfull:
                self._transport.pause_reading()
            else:
                self._listen_again()

    def _handle(self, packets: Callable[..., None], *received: memoryview) -> None:
        """Handle packets; a bad one ends the connection."""
        try:
            packets(*received)
        except asyncssh.DisconnectError as error:
            self._send_disconnect(error.code, error.reason, error.lang)
            self._force_close(error)
        except Exception:
            self.internal_error()

    def _handle_received(self) -> None:
        deadline = perf_counter() + TURN
        while self._inpbuf and self._transport is not None and self._recv_handler():
            if self._inpbuf and perf_counter() > deadline:
                self._wait_turn()
                return

    def _wait_turn(self) -> None:
        if self._transport is not None:
            self._waits_turn = True
            self._transport.pause_reading()
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._waits_turn = False
        if self._transport is not None:  # else it was cut off meanwhile, and nothing more is to be handled
            self._recv_data()
        self._listen_again()

    def _listen_again(self) -> None:
        """Read from the socket again, unless there is another reason not to."""
        if not (self._waits_turn or self._held or self._overfull) and self._transport is not None:
            self._transport.resume_reading()

    def send_packet(self, pkttype: int, *args: bytes, handler: SSHPacketLogger | None = None) -> None:
        """Send a packet, without the empty one that asyncssh puts before each.

        That one guards CBC ciphers against a chosen-plaintext attack. Under an AEAD cipher it guards
        nothing, and costs as much as the packet itself, on both ends.
        """
        if pkttype != MSG_IGNORE or self._enc_alg_sc not in AEAD_CIPHERS:
            super().send_packet(pkttype, *args, handler=handler)

    def pause_writing(self) -> None:
        self.writing_paused = True
        for upstream in list(self._upstreams):
            upstream.pause_writing()

    def resume_writing(self) -> None:
        self.writing_paused = False
        if self._held:
            self._held = False
            self._listen_again()
        for upstream in list(self._upstreams):
            upstream.resume_writing()

    def add_upstream(self, upstream: UpstreamChannel) -> None:
        """Let ``upstream`` hear when the socket takes no more."""
        self._upstreams.add(upstream)

    def remove_upstream(self, upstream: UpstreamChannel) -> None:
        """Forget ``upstream``."""
        self._upstreams.discard(upstream)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that serves this connection."""
        return self._loop

    # Transport

    async def open_channel(self, request: str, receiver: ChannelReceiver) -> Channel:
        """Open a channel, see :class:`Transport`; what opens after the time limit is closed again."""
        if self.closed:
            raise ChannelRefused("the client is gone")
        if len(self._channels) >= MAX_CHANNELS:
            raise ChannelRefused("the client has too many channels open")
        self._setting_up = False
        session = UpstreamChannel(receiver, self)
        asked_at = self._loop.time()
        opening = self._loop.create_task(self.create_unix_connection(lambda: session, request, encoding=None))
        try:
            done, _ = await asyncio.wait({opening}, timeout=self.channel_timeout)
        except asyncio.CancelledError:
            opening.add_done_callback(_discard)
            raise
        if not done:
            opening.add_done_callback(_discard)
            raise ChannelRefused(f"the client did not open a channel within {self.channel_timeout:g} s")
        try:
            opening.result()
        except (asyncssh.Error, OSError) as error:
            raise ChannelRefused(f"the client refused a channel: {error}") from None
        self.windows.measured(self._loop.time() - asked_at)
        if session.takes_tiny_packets:
            session.abort()
            raise ChannelRefused(f"the client takes packets of less than {MIN_PACKET} bytes only")
        return session

    def create_unix_channel(self, *args: Any, **kwargs: Any) -> TunnelChannel:
        """Return a channel with a window of our choice, whatever ``args`` ask for."""
        return self._with_window(TunnelChannel)

    def _with_window(self, kind: type[TunnelChannel]) -> TunnelChannel:
        window = self.windows.open()
        if not window:
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_RESOURCE_SHORTAGE, "its channels hold all the memory they may"
            )
        self._update_recv_pktlen(PACKET)
        return kind(self, window)

    @property
    def windows(self) -> Windows:
        """The receive windows of all channels."""
        if self._windows is None:
            self._windows = Windows(self.channel_memory)
        return self._windows

    async def probe(self) -> bool:
        """Ask for a sign of life; those who ask at the same time share one answer."""
        if self.closed:
            return False
        if self._probing is None or self._probing.done():
            self._probing = self._loop.create_task(self._ask())
        return await asyncio.shield(self._probing)

    async def _ask(self) -> bool:
        heard = self._heard_times
        waiter = self._loop.create_task(self._round_trip())
        await asyncio.wait({waiter}, timeout=self.probe_timeout)
        if waiter.done():
            return not self.closed and waiter.exception() is None
        waiter.cancel()
        return not self.closed and self._heard_times != heard

    def close(self, reason: str = "") -> None:
        """Say why, then cut the connection off without waiting for the peer."""
        if self.closed:
            return
        if reason and self.verified_key is not None:
            self._send_disconnect(asyncssh.DISC_BY_APPLICATION, reason, "en")
        self.abort()

    @property
    def peer_address(self) -> str:
        """The peer's IP address as text; a v4 address mapped into v6 as v4."""
        if self.told_peer is not None:
            return self.told_peer[0]
        return (self._peer_addr or "unknown").removeprefix("::ffff:")


def _discard(opening: asyncio.Task[Any]) -> None:
    """Close a channel that opened when nobody waits for it any more."""
    if not opening.cancelled() and opening.exception() is None:
        channel, _ = opening.result()
        channel.abort()
