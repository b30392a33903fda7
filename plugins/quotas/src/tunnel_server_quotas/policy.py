"""The policy for the requests of one tunnel. Every request passes here: no more is done than has to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from tunnel_server import Abstain
from tunnel_server_quotas.meter import BUSY
from tunnel_server_quotas.refusals import spent, too_many

if TYPE_CHECKING:
    from tunnel_server import FinishedRequest, Refuse, Request, Tunnel
    from tunnel_server_quotas.keys import Keys
    from tunnel_server_quotas.ledger import Ledger
    from tunnel_server_quotas.limits import Pace
    from tunnel_server_quotas.meter import Meter
    from tunnel_server_quotas.metrics import Metrics
    from tunnel_server_quotas.overrides import Overrides

REFUSED = "refused"  # the outcome of a request that another policy kept out

log = structlog.get_logger()


class Desk:
    """What the policies of all tunnels share. ``clock`` is monotonic, in seconds."""

    __slots__ = ("clock", "keys", "ledger", "metrics", "overrides")

    def __init__(
        self, clock: Callable[[], float], keys: Keys, ledger: Ledger, overrides: Overrides, metrics: Metrics
    ) -> None:
        self.clock = clock
        self.keys = keys
        self.ledger = ledger
        self.overrides = overrides
        self.metrics = metrics


class TunnelPolicy:
    """Answers for one tunnel.

    All limits are looked at before a request counts for any, so one that is refused costs nobody a token. The key
    comes first and the visitor last: strangers who come in vain are not remembered.
    """

    __slots__ = ("_client", "_desk", "_label", "_limits", "_thumbprint", "_version")

    def __init__(self, desk: Desk, tunnel: Tunnel) -> None:
        self._desk = desk
        self._client = tunnel.client
        self._label = tunnel.label
        self._thumbprint = str(tunnel.client.thumbprint)
        self._limits = desk.overrides.of(tunnel.client)
        self._version = desk.overrides.version

    def __call__(self, request: Request) -> Abstain | Refuse | None:
        desk = self._desk
        if self._version != desk.overrides.version:
            self._read_limits()
        limits = self._limits
        if limits.bytes_per_day and desk.ledger.spent(self._thumbprint) >= limits.bytes_per_day:
            return self._spent()
        now = desk.clock()
        key = desk.keys.of(self._thumbprint, now)
        if (wait := key.wait(limits.key, now)) > 0:
            return self._refused("key", wait)
        taken: list[tuple[Meter, Pace]] = [(key, limits.key)]
        if (pace := limits.tunnel).limits:
            tunnel = key.tunnels.of(self._label, now)
            if (wait := tunnel.wait(pace, now)) > 0:
                return self._refused("tunnel", wait)
            taken.append((tunnel, pace))
        visitor = None
        if (pace := limits.visitor).limits:
            visitor = key.visitors.of(request.visitor, now)
            if (wait := visitor.wait(pace, now)) > 0:
                return self._refused("visitor", wait)
            visitor.take(pace, now)
        for meter, its in taken:
            meter.take(its, now)
        desk.keys.running += 1
        return Abstain(finished=Running(self, taken, visitor))

    def finished(self, octets: int) -> None:
        """A request ended that was let pass by all policies."""
        limit, ledger = self._limits.bytes_per_day, self._desk.ledger
        if not limit:
            return
        before = ledger.spent(self._thumbprint)
        ledger.add(self._thumbprint, octets)
        if before < limit <= before + octets:
            log.warning("quotas.bytes-spent", client_id=str(self._client.id), bytes=before + octets, limit=limit)

    def ended(self) -> None:
        """A request runs no longer."""
        self._desk.keys.running -= 1

    def _read_limits(self) -> None:
        overrides = self._desk.overrides
        self._limits, self._version = overrides.of(self._client), overrides.version

    def _refused(self, scope: str, wait: float) -> Refuse:
        self._desk.metrics.refused("concurrent_requests" if wait == BUSY else "requests_per_second", scope)
        return too_many(scope, wait)

    def _spent(self) -> Refuse:
        self._desk.metrics.refused("bytes_per_day", "key")
        return spent(self._desk.ledger.until_midnight())


class Running:
    """A request that runs; called once it ended, with how it did."""

    __slots__ = ("_policy", "_taken", "_visitor")

    def __init__(self, policy: TunnelPolicy, taken: list[tuple[Meter, Pace]], visitor: Meter | None) -> None:
        self._policy: TunnelPolicy | None = policy
        self._taken = taken
        self._visitor = visitor

    def __call__(self, request: FinishedRequest) -> None:
        """Give back what was taken.

        A request that another policy refused did not reach the service. It counts for the visitor, but not for the
        tunnel and its owner: who may not see a private tunnel cannot use up the requests of those who may.
        """
        policy, self._policy = self._policy, None
        if policy is None:
            return
        refused = request.outcome == REFUSED
        for meter, pace in self._taken:
            meter.end()
            if refused:
                meter.give_back(pace)
        if self._visitor is not None:
            self._visitor.end()
        policy.ended()
        if not refused:
            policy.finished(request.bytes_in + request.bytes_out)
