"""The proofs of live tunnels, looked at again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import sample

import structlog

from tunnel_server import Server, Tunnel
from tunnel_server_custom_domains.fingerprints import fingerprint
from tunnel_server_custom_domains.mapfile import HostMap
from tunnel_server_custom_domains.metrics import Metrics
from tunnel_server_custom_domains.names import Domain
from tunnel_server_custom_domains.proof import Proofs, Verdict

MAX_CLIENTS_AT_ONCE = 16
FRESH = 10.0  # seconds, at most, in which tunnels that share a record share a look at it

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Holding:
    """A live tunnel on a domain, and the key that has to prove it."""

    tunnel: Tunnel
    domain: Domain
    fingerprint: str


def holdings(tunnels: Iterable[Tunnel], domain_of: Callable[[Tunnel], Domain | None]) -> list[Holding]:
    """Return those of ``tunnels`` that stand on a domain."""
    found = ((tunnel, domain_of(tunnel)) for tunnel in tunnels)
    return [
        Holding(tunnel, domain, fingerprint(tunnel.client.public_key)) for tunnel, domain in found if domain is not None
    ]


@dataclass(frozen=True, slots=True)
class WatchRules:
    """Seconds between two looks, and after how many without a proof, in a row, a tunnel is closed."""

    interval: float = 300.0
    failures: int = 3


class Watch:
    """Closes tunnels whose proof is gone. What nobody could tell closes nothing, and forgives nothing."""

    def __init__(self, proofs: Proofs, rules: WatchRules, metrics: Metrics) -> None:
        self._proofs = proofs
        self._rules = rules
        self._metrics = metrics
        self._fresh = min(FRESH, rules.interval / 2)
        self._absent: dict[Tunnel, int] = {}  # looks in a row that found no proof

    async def run(self, server: Server, domain_of: Callable[[Tunnel], Domain | None]) -> None:
        """Look at every tunnel once an interval. Never returns."""
        while True:
            await asyncio.sleep(self._rules.interval)
            try:
                # Who has many domains on silent name servers makes a round longer, never endless.
                async with asyncio.timeout(max(self._rules.interval, 60.0)):
                    await self.look(server, holdings(server.tunnels(), domain_of))
            except TimeoutError:
                log.warning("custom-domains.recheck-slow", seconds=self._rules.interval)

    async def look(self, server: Server, held: list[Holding]) -> None:
        """Look at ``held``, all tunnels on domains; each client's one after the other."""
        live = {holding.tunnel for holding in held}
        self._absent = {tunnel: count for tunnel, count in self._absent.items() if tunnel in live}
        by_key: dict[str, list[Holding]] = {}
        for holding in held:
            by_key.setdefault(holding.fingerprint, []).append(holding)
        slots = asyncio.Semaphore(MAX_CLIENTS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            # in another order each time: if a round is cut short, it is not always the same who go unseen
            for key in sample(list(by_key), len(by_key)):
                group.create_task(self._one_client(server, by_key[key], slots))

    async def map_changed(self, server: Server, held: list[Holding], before: HostMap, after: HostMap) -> None:
        """Close at once what the map had given and gives no more, unless a record proves it."""
        for holding in held:
            given = before.allows(holding.domain, holding.fingerprint)
            if given and not after.allows(holding.domain, holding.fingerprint):
                finding = await self._proofs.find(holding.domain, holding.fingerprint, age=self._fresh)
                if finding.verdict is not Verdict.HOLDS:  # the operator took it back: there is nothing to wait for
                    self._close(server, holding)

    async def _one_client(self, server: Server, held: list[Holding], slots: asyncio.Semaphore) -> None:
        async with slots:
            for holding in held:
                await self._one(server, holding)

    async def _one(self, server: Server, holding: Holding) -> None:
        finding = await self._proofs.find(holding.domain, holding.fingerprint, age=self._fresh)
        match finding.verdict:
            case Verdict.HOLDS:
                self._absent.pop(holding.tunnel, None)
            case Verdict.ABSENT:
                count = self._absent[holding.tunnel] = self._absent.get(holding.tunnel, 0) + 1
                log.warning("custom-domains.proof-absent", host=holding.domain.name, looks=count)
                if count >= self._rules.failures:
                    self._close(server, holding)
            case _:
                log.info("custom-domains.proof-unknown", host=holding.domain.name)

    def _close(self, server: Server, holding: Holding) -> None:
        self._absent.pop(holding.tunnel, None)
        self._metrics.closed()
        log.warning(
            "custom-domains.closed",
            host=holding.domain.name,
            client_id=str(holding.tunnel.client.id),
            fingerprint=holding.fingerprint,
        )
        server.close(holding.tunnel, f"the proof that {holding.domain.name} is yours is gone")
