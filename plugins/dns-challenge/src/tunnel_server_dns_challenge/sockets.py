"""The sockets to answer on."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import NamedTuple

BACKLOG = 100  # connections that may wait to be accepted

_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class Pair(NamedTuple):
    """The two sockets of one address."""

    udp: socket.socket
    tcp: socket.socket

    def close(self) -> None:
        """Let go of both. Safe to repeat."""
        self.udp.close()
        self.tcp.close()


async def bind(host: str, port: int) -> list[Pair]:
    """Return sockets for every address of ``host``, empty for all of the machine's.

    Raises:
        OSError: naming the port; none is left open.
    """
    pairs: list[Pair] = []
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, _, _, _, address in dict.fromkeys(found):
            try:
                pairs.append(_bound(family, address))
            except OSError as error:
                if host or family != socket.AF_INET6 or error.errno not in _NO_IPV6:
                    raise
    except OSError as error:
        for pair in pairs:
            pair.close()
        raise OSError(f"cannot answer on port {port}: {error.strerror or error}") from None
    return pairs


def _bound(family: int, address: tuple[object, ...]) -> Pair:
    pair = Pair(socket.socket(family, socket.SOCK_DGRAM), socket.socket(family, socket.SOCK_STREAM))
    try:
        for sock in pair:
            sock.setblocking(False)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        pair.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for sock in pair:
            sock.bind(address)
        pair.tcp.listen(BACKLOG)
    except OSError:
        pair.close()
        raise
    return pair
