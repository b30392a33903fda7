"""A server connection that makes its offer of ciphers after it has seen the client's.

asyncssh sends its KEXINIT as soon as it knows the client's version. RFC 4253 §7.1 lets either side send first, so this
one waits for the client's, and for a client that waits as well it waits no longer than :data:`PATIENCE`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from asyncssh.connection import SSHServerConnection
from asyncssh.constants import MSG_KEXINIT
from asyncssh.packet import PacketDecodeError, SSHPacket

from tunnel_server.domain.ciphers import offer

PATIENCE = 0.2  # seconds a client that does not begin is waited for


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
        elif not self._session_id and not self._client_kexinit and self._patience is None:
            self._patience = self._loop.call_later(PATIENCE, self._begin)
            return
        self._impatient()
        super()._send_kexinit()

    def _begin(self) -> None:
        """Make the whole offer: the client waits for it."""
        if self._transport is not None and not self._client_kexinit:
            super()._send_kexinit()
            self._kexinit_sent = True
        self._impatient()

    def _impatient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _offer_after_theirs(self, pkttype: int, pktid: int, packet: SSHPacket) -> Coroutine[Any, Any, None]:
        if not self._kexinit_sent and not self.fixed_ciphers:
            self._enc_algs = offer(*_listed_ciphers(packet.get_full_payload()))
        self._impatient()
        return super()._process_kexinit(pkttype, pktid, packet)

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        super().send_newkeys(k, h)
        self._client_kexinit = self._server_kexinit = b""  # 3 KiB that each client would hold until the next exchange

    def _cleanup(self, exc: Exception | None) -> None:
        self._impatient()
        super()._cleanup(exc)

    _packet_handlers = {  # noqa: RUF012 - asyncssh's own form of a dispatch table
        **SSHServerConnection._packet_handlers,
        MSG_KEXINIT: _offer_after_theirs,
    }


def _listed_ciphers(kexinit: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return the ciphers that a KEXINIT lists, one list a direction; none where it cannot be read."""
    packet = SSHPacket(kexinit)
    try:
        packet.get_bytes(1 + 16)  # its type and cookie
        packet.get_namelist()  # key exchanges
        packet.get_namelist()  # host keys
        return list(packet.get_namelist()), list(packet.get_namelist())
    except PacketDecodeError:
        return [], []
