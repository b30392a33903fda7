"""The TLS port: HTTPS and SSH, the latter with and without TLS."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tunnel_server.adapters.tls.doorman import Doorman, Gate, Inner
from tunnel_server.adapters.tls.lobby import Lobby
from tunnel_server.adapters.tls.turns import Turns
from tunnel_server.domain.errors import ListenerFailed

if TYPE_CHECKING:
    from tunnel_server.adapters.tls.certificates import Certificates
    from tunnel_server.adapters.tls.port import Port
    from tunnel_server.domain.metrics import HandshakeMetrics


@dataclass(frozen=True, slots=True)
class TlsLimits:
    """Times in seconds; see docs/reference/settings.md."""

    handshake_timeout: float = 10.0
    max_handshakes: int = 2048


class TlsListener:
    """Listens while entered. Leaving closes the port and sends away who is not known yet; others stay.

    Raises:
        ListenerFailed: on entering, when the port cannot be had.
    """

    def __init__(
        self,
        certificates: Certificates,
        inner: Inner,
        metrics: HandshakeMetrics,
        limits: TlsLimits,
        port: Port,
        ssh_names: frozenset[str],
        challenge: Callable[[str], ssl.SSLContext | None] | None = None,
    ) -> None:
        self._port = port
        self._lobby = Lobby(limits.max_handshakes)
        self._gate = Gate(
            certificates,
            inner,
            self._lobby,
            Turns(),
            metrics.handshake,
            ssh_names=ssh_names,
            timeout=limits.handshake_timeout,
            challenge=challenge,
        )

    @property
    def port(self) -> int:
        """The port listened on, also where the system chose it."""
        return self._port.number

    async def __aenter__(self) -> Self:
        await self._lobby.__aenter__()
        try:
            await self._port.open(lambda peer: Doorman(self._gate, peer))
        except ListenerFailed:
            await self._lobby.__aexit__()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_accepting()
        await self._lobby.__aexit__()

    def stop_accepting(self) -> None:
        """Close the port; connections stay."""
        self._port.close()
