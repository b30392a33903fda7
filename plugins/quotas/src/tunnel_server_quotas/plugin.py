"""The plugin itself: hooks, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from tunnel_server import Reject, hookimpl
from tunnel_server_quotas.keys import Keys
from tunnel_server_quotas.ledger import Ledger
from tunnel_server_quotas.metrics import Metrics
from tunnel_server_quotas.overrides import Overrides
from tunnel_server_quotas.policy import Desk, TunnelPolicy
from tunnel_server_quotas.settings import SETTINGS
from tunnel_server_quotas.state_file import StateFile
from tunnel_server_quotas.tunnels import Openings
from tunnel_server_quotas.upkeep import Upkeep

if TYPE_CHECKING:
    from tunnel_server import Client, ForwardRequest, RequestPolicy, Server, Setting, Tunnel

Clock = Callable[[], float]

log = structlog.get_logger()


class Quotas:
    """Limits the tunnels, requests and bytes of each key.

    ``clock`` is monotonic and ``wall`` counts from the epoch, both in seconds.
    """

    def __init__(self, clock: Clock = time.monotonic, wall: Clock = time.time) -> None:
        self._clock = clock
        self._keys = Keys()
        self._ledger = Ledger(wall)
        self._metrics = Metrics(self._keys, self._ledger)
        self._openings = Openings(clock)
        self._state: StateFile | None = None
        self._desk: Desk
        self._server: Server
        self._upkeep: Upkeep

    @hookimpl
    def register_settings(self) -> Sequence[Setting]:
        """Declare the limits and the files."""
        return SETTINGS

    @hookimpl
    def register_metrics(self) -> Sequence[Any]:
        """Add the counters and gauges."""
        return self._metrics.collectors

    @hookimpl
    def configure(self, settings: Mapping[str, Any]) -> None:
        """Take the limits and read both files; one that is wrong stops the start."""
        exceptions, state = settings["exceptions_file"], settings["state_file"]
        overrides = Overrides(settings, Path(exceptions) if exceptions else None)
        self._state = StateFile(Path(state)) if state else None
        try:
            overrides.load()
            self._restore()
        except OSError as error:
            raise ValueError(f"quotas: {error}") from None
        self._desk = Desk(self._clock, self._keys, self._ledger, overrides, self._metrics)

    @hookimpl
    async def startup(self, server: Server) -> None:
        """Begin to look after things; a state file that cannot be written is told of at once."""
        self._server = server
        self._upkeep = Upkeep(self._desk, self._openings, server, self._state)
        await self._upkeep.save()
        server.spawn(self._upkeep.run())

    @hookimpl
    async def shutdown(self) -> None:
        """Keep the bytes of the day; every request has ended by now."""
        await self._upkeep.save()

    @hookimpl
    def authorize_tunnel(self, client: Client, request: ForwardRequest, names: tuple[str, ...]) -> Reject | None:
        """Reject a tunnel if its key has enough of them, over all its connections."""
        limit = self._desk.overrides.of(client).tunnels
        if not limit:
            return None
        live = self._server.of_profile(str(client.thumbprint))
        rejected = self._openings.ask(client, names, limit, live)
        if rejected is not None:
            self._metrics.refused("tunnels", "key")
        return rejected

    @hookimpl
    def tunnel_opened(self, tunnel: Tunnel) -> None:
        """Free the place that was kept for a tunnel, and see that there are not too many after all."""
        self._openings.opened(tunnel)
        self._upkeep.check(tunnel)

    @hookimpl
    def guard_tunnel(self, tunnel: Tunnel) -> RequestPolicy | None:
        """Return the policy of a tunnel; none if nothing limits its requests, now or later."""
        overrides = self._desk.overrides
        if overrides.may_change or overrides.of(tunnel.client).limits_requests:
            return TunnelPolicy(self._desk, tunnel)
        return None

    def _restore(self) -> None:
        account = self._state.read() if self._state is not None else None
        if account is not None and self._ledger.restore(account):
            log.info("quotas.state-restored", keys=len(self._ledger))
