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
        if "." in self._base_host:
            return
        try:
            self._certificates.install(self._source(tunnel), *issue_for(self._folder, self._host(tunnel)))
        except (InvalidCertificate, OSError) as error:
            log.error("dev-certificate.failed", label=tunnel.label, reason=str(error))

    def tunnel_closed(self, tunnel: Tunnel) -> None:
        self._certificates.remove(self._source(tunnel))

    def _host(self, tunnel: Tunnel) -> str:
        return f"{tunnel.label}.{self._base_host}"

    def _source(self, tunnel: Tunnel) -> str:
        return f"development {self._host(tunnel)}"
