"""Whether a port could be listened on."""

from __future__ import annotations

import errno
import socket

from tunnel_server.domain.diagnosis.ports import Holder


def could_listen(host: str, port: int) -> tuple[Holder, str]:
    """Return who has the port at ``host``, empty for all addresses, and what the system says.

    The port is had for a moment and not listened on.
    """
    for family, address in _places(host):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address, port))
        except OSError as error:
            if not host and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                continue  # a machine without IPv6
            return _holder(error), f"cannot be listened on: {error.strerror or error}"
    return Holder.FREE, ""


def _places(host: str) -> list[tuple[int, str]]:
    if host:
        return [(socket.AF_INET6 if ":" in host else socket.AF_INET, host)]
    return [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]


def _holder(error: OSError) -> Holder:
    if isinstance(error, PermissionError):
        return Holder.FORBIDDEN
    if error.errno == errno.EADDRINUSE:
        return Holder.TAKEN
    return Holder.NOT_HERE
