"""The control plane behind a channel in memory."""

from __future__ import annotations

import asyncio
from typing import cast

from rig import until

from tunnel_server.adapters.proxy.http2.control import control_upstream


class Starting(asyncio.Protocol):
    """Has a task that begins a moment later, as aiohttp's protocol has."""

    alive = False
    started_alive: bool | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.alive = True
        asyncio.get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        self.started_alive = self.alive

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False


async def test_a_visitor_who_leaves_at_once_is_lost_after_the_protocol_has_started() -> None:
    protocol = Starting()
    upstream = control_upstream(lambda: protocol, cast(asyncio.Transport, None))
    upstream.close()
    await until(lambda: not protocol.alive)

    assert protocol.started_alive
