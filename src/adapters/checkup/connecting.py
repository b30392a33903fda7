"""A connection to an address, on which something may have to be said first."""

from __future__ import annotations

import asyncio
import socket


async def connected(address: str, port: int, preface: bytes = b"") -> socket.socket:
    """Return a socket, not blocking, connected to ``address`` and on which ``preface`` was sent.

    Raises:
        OSError: there is no connection.
    """
    loop = asyncio.get_running_loop()
    own = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        own.setblocking(False)
        await loop.sock_connect(own, (address, port))
        await loop.sock_sendall(own, preface)
    except BaseException:
        own.close()
        raise
    return own
