"""Certificates for development of the tunnels under a base host of one label, such as ``localhost``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from tunnel_server.adapters.tls.devca import issue_for
from tunnel_server.domain.errors import InvalidCertificate
from tunnel_server.domain.ports import TunnelEvents

if TYPE_CHECKING:
    from tunnel_server.adapters.tls.certificates import Certificates
    from tunnel_server.domain.tunnel import Tunnel

log = structlog.get_logger()


class DevTunnels(TunnelEvents):
    """Gives each tunnel a certificate of its own, since no browser takes ``*.localhost`` (RFC 6125 §7.2)."""

    def __init__(self, certificates: Certificates, folder: Path, base_host: str) -> None:
        self._certificates = certificates
        self._folder = folder
        self._base_host = base_host

    def tunnel_opened(self, tunnel: Tunnel) -> None:
        for host in self._hosts(tunnel):
            try:
                self._certificates.install(_source(host), *issue_for(self._folder, host))
            except (InvalidCertificate, OSError) as error:
                log.error("dev-certificate.failed", host=host, reason=str(error))

    def tunnel_closed(self, tunnel: Tunnel) -> None:
        for host in self._hosts(tunnel):
            self._certificates.remove(_source(host))

    def _hosts(self, tunnel: Tunnel) -> list[str]:
        """Return the hosts that the base host's certificate does not cover."""
        whole = [name for name in tunnel.names if "." in name]
        if "." in self._base_host:
            return whole
        return whole + [f"{name}.{self._base_host}" for name in tunnel.names if "." not in name]


def _source(host: str) -> str:
    return f"development {host}"
