"""An SSH client that listens to what it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncssh


class Refused(Exception):
    """The server refused a client or a tunnel; ``reason`` is what it told the client, on one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Told(asyncssh.SSHClient):
    """Keeps the latest thing that the server said outside of any session."""

    latest = ""

    def auth_banner_received(self, msg: str, lang: str) -> None:
        self.latest = msg.strip()

    def debug_msg_received(self, msg: str, lang: str, always_display: bool) -> None:
        self.latest = msg.strip()


@asynccontextmanager
async def connected(port: int, **options: Any) -> AsyncIterator[tuple[asyncssh.SSHClientConnection, Told]]:
    """Connect on loopback, reading no file of this machine's user; ``options`` are those of ``asyncssh.connect``.

    Raises:
        Refused: the client was rejected.
    """
    told = Told()
    usual = {"client_factory": lambda: told, "known_hosts": None, "config": None, "agent_path": None}
    try:
        connection = await asyncssh.connect("127.0.0.1", port, **(usual | options))
    except asyncssh.PermissionDenied as error:
        raise Refused(told.latest or error.reason) from None
    async with connection:
        yield connection, told
