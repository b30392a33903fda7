"""Holding live connections and tunnels to the lines in force."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from tunnel_server_authorized_keys.counts import Counts
from tunnel_server_authorized_keys.rules import PREFIX, Denial, Grant, objection

if TYPE_CHECKING:
    from tunnel_server import Client, Server, Tunnel

TURN = 200  # clients or tunnels judged before others may have the event loop
GONE = "your key is no longer in the server's authorized keys"

log = structlog.get_logger()


def is_ours(client: Client) -> bool:
    """Return whether this plugin admitted a client; one that another admitted is not for it to judge."""
    return PREFIX + "line" in client.attributes


class Enforcement:
    """Ends what the lines, as ``find`` reads them for a client, no longer allow."""

    def __init__(self, server: Server, find: Callable[[Client], Grant | Denial | None], counts: Counts) -> None:
        self._server = server
        self._find = find
        self._counts = counts

    async def run(self) -> None:
        """Judge every client and every tunnel once."""
        for number, client in enumerate(self._server.clients(), 1):
            self._judge_client(client)
            await _give_way(number)
        for number, tunnel in enumerate(self._server.tunnels(), 1):
            self._judge_tunnel(tunnel)
            await _give_way(number)

    def _judge_client(self, client: Client) -> None:
        found = self._find(client) if is_ours(client) else None
        if not is_ours(client) or isinstance(found, Grant):
            return
        reason = GONE if found is None else found.reason
        log.info("authorized-keys.disconnected", client_id=str(client.id), address=client.address, reason=reason)
        self._server.disconnect(client, reason)
        self._counts.ended("connection")

    def _judge_tunnel(self, tunnel: Tunnel) -> None:
        found = self._find(tunnel.client) if is_ours(tunnel.client) else None
        if not isinstance(found, Grant):
            return  # not ours, or its whole connection was ended
        reason = objection(found, tunnel.request.name, tunnel.names)
        if reason is not None:
            log.info("authorized-keys.closed", client_id=str(tunnel.client.id), label=tunnel.label, reason=reason)
            self._server.close(tunnel, reason)
            self._counts.ended("tunnel")


async def _give_way(number: int) -> None:
    if number % TURN == 0:
        await asyncio.sleep(0)
