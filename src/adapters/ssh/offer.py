"""A server connection that makes its offer of algorithms after it has seen the client's.

asyncssh sends its KEXINIT as soon as it knows the client's version. RFC 4253 §7.1 lets either side send first, so this
one waits for the client's, which comes a round trip after its version, and no longer than :data:`PATIENCE`: a
client that waits as well is offered what is best, and nothing that only the oldest clients need.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Self

from asyncssh.connection import SSHServerConnection
from asyncssh.constants import MSG_KEXINIT
from asyncssh.packet import PacketDecodeError, SSHPacket

from tunnel_server.domain.ciphers import NIST_EXCHANGES, offer, offer_exchanges, offer_macs

PATIENCE = 2.0  # seconds a client that does not begin is waited for; the longest links take one for a round trip


class OfferingConnection(SSHServerConnection):
    """Chooses ciphers by :func:`tunnel_server.domain.ciphers.offer`, unless ``fixed_ciphers`` says what to offer."""

    fixed_ciphers: tuple[bytes, ...] = ()
    _patience: asyncio.TimerHandle | None = None

    def _recv_version(self) -> bool:
        went_on = super()._recv_version()
        if self._patience is not None:
            self._kexinit_sent = False  # asyncssh takes it for sent
        return went_on

    def _send_kexinit(self) -> None:
        if self.fixed_ciphers:
            self._enc_algs = list(self.fixed_ciphers)
        if not self._session_id and not self._client_kexinit and self._patience is None:
            self._patience = self._loop.call_later(PATIENCE, self._begin)
            return
        self._impatient()
        super()._send_kexinit()

    def _begin(self) -> None:
        """Make an offer: the client waits for it."""
        if self._transport is not None and not self._client_kexinit:
            super()._send_kexinit()
            self._kexinit_sent = True
        self._impatient()

    def _impatient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    async def _offer_after_theirs(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        theirs = _Proposal.read(packet.get_full_payload())
        if not self._kexinit_sent:
            self._offer_to(theirs)
        self._impatient()
        await super()._process_kexinit(pkttype, pktid, packet)
        # asyncssh compares with what was agreed on; by RFC 4253 §7 both sides must like the same best.
        self._ignore_first_kex = theirs.guesses and not (
            theirs.exchanges[:1] == self._kex_algs[:1]
            and theirs.host_keys[:1] == list(self._server_host_key_algs or ())[:1]
        )

    def _offer_to(self, theirs: _Proposal) -> None:
        if not self.fixed_ciphers:
            self._enc_algs = offer(theirs.to_server, theirs.to_client)
        served = {*self._kex_algs, *NIST_EXCHANGES}  # asyncssh may lack a library for the others
        self._kex_algs = [name for name in offer_exchanges(theirs.exchanges) if name in served]
        self._mac_algs = offer_macs(theirs.macs_to_server, theirs.macs_to_client)

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        self._client_kexinit = self._server_kexinit = b""  # 3 KiB that each client would hold until the next exchange
        super().send_newkeys(k, h)  # which may begin that one

    def _cleanup(self, exc: Exception | None) -> None:
        self._impatient()
        super()._cleanup(exc)

    _packet_handlers = {  # noqa: RUF012 - asyncssh's own form of a dispatch table
        **SSHServerConnection._packet_handlers,
        MSG_KEXINIT: _offer_after_theirs,
    }


class _Proposal(NamedTuple):
    """What a client lists in its KEXINIT (RFC 4253 §7.1), and whether a packet follows that guesses the outcome."""

    exchanges: list[bytes]
    host_keys: list[bytes]
    to_server: list[bytes]
    to_client: list[bytes]
    macs_to_server: list[bytes]
    macs_to_client: list[bytes]
    guesses: bool

    @classmethod
    def read(cls, kexinit: bytes) -> Self:
        """Read a KEXINIT; one that cannot be read, which asyncssh complains of, lists nothing."""
        packet = SSHPacket(kexinit)
        try:
            packet.get_bytes(1 + 16)  # its type and cookie
            kex, keys, to_server, to_client, macs_to_server, macs_to_client, *_ = [
                list(packet.get_namelist()) for _ in range(10)
            ]
            return cls(kex, keys, to_server, to_client, macs_to_server, macs_to_client, packet.get_boolean())
        except PacketDecodeError:
            return cls([], [], [], [], [], [], False)
