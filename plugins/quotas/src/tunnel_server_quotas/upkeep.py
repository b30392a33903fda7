"""What is done every few seconds: forget, close what is too much, read and write files."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from tunnel_server_quotas.tunnels import excess, reason

if TYPE_CHECKING:
    from tunnel_server import Server, Tunnel
    from tunnel_server_quotas.policy import Desk
    from tunnel_server_quotas.state_file import StateFile
    from tunnel_server_quotas.tunnels import Openings

EVERY = 5.0  # seconds
SAVE_EVERY = 6  # rounds: a crash loses at most half a minute of bytes
TURN = 5  # keys that are looked at before others have their turn; of the largest a millisecond each

log = structlog.get_logger()


class Upkeep:
    """Keeps a server's quotas in order."""

    def __init__(self, desk: Desk, openings: Openings, server: Server, state: StateFile | None) -> None:
        self._desk = desk
        self._openings = openings
        self._server = server
        self._state = state

    async def run(self) -> None:
        """Do a round every :data:`EVERY` seconds, until cancelled. One that fails is told of, and is not the last."""
        rounds = 0
        while True:
            await asyncio.sleep(EVERY)
            rounds += 1
            try:
                await self.round()
                if rounds % SAVE_EVERY == 0:
                    await self.save()
            except Exception:
                log.exception("quotas.upkeep-failed")

    async def round(self) -> None:
        """Do all that is due, but the saving."""
        await self._load()
        await self._forget()
        self._close_excess()

    async def save(self) -> None:
        """Keep the bytes of the day, if any came since the last time."""
        if self._state is None:
            return
        try:
            await asyncio.to_thread(self._state.write, self._desk.ledger.copy(), self._desk.ledger.changes)
        except OSError as error:
            self._desk.metrics.file_failed("state")
            log.error("quotas.state-not-saved", reason=str(error))

    def check(self, tunnel: Tunnel) -> None:
        """Close a tunnel's key's newest tunnels, if they are too many by now."""
        self._close_newest(self._server.of_profile(str(tunnel.client.thumbprint)))

    async def _load(self) -> None:
        overrides = self._desk.overrides
        try:
            if await asyncio.to_thread(overrides.load):
                log.info("quotas.exceptions-loaded", keys=len(overrides))
        except (OSError, ValueError) as error:
            self._desk.metrics.file_failed("exceptions")
            log.error("quotas.exceptions-not-loaded", reason=str(error))

    async def _forget(self) -> None:
        self._openings.forget()
        for looked_at, _ in enumerate(self._desk.keys.forget(self._desk.clock()), 1):
            if looked_at % TURN == 0:
                await asyncio.sleep(0)

    def _close_excess(self) -> None:
        by_key: dict[str, list[Tunnel]] = {}
        for tunnel in self._server.tunnels():
            by_key.setdefault(str(tunnel.client.thumbprint), []).append(tunnel)
        for tunnels in by_key.values():
            self._close_newest(tunnels)

    def _close_newest(self, tunnels: list[Tunnel]) -> None:
        if not tunnels:
            return
        limit = self._desk.overrides.of(tunnels[0].client).tunnels
        for tunnel in excess(tunnels, limit):
            self._desk.metrics.closed()
            log.warning("quotas.tunnel-closed", client_id=str(tunnel.client.id), label=tunnel.label, limit=limit)
            self._server.close(tunnel, reason(len(tunnels), limit))
