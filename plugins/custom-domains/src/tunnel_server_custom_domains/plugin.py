"""The hooks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from tunnel_server import Client, ForwardRequest, Reject, Server, Setting, Tunnel, hookimpl
from tunnel_server_custom_domains.budget import Budget, network
from tunnel_server_custom_domains.fingerprints import fingerprint
from tunnel_server_custom_domains.lookups import CacheRules, Lookups
from tunnel_server_custom_domains.mapfile import BadMap, HostMap, MapFile
from tunnel_server_custom_domains.metrics import Metrics
from tunnel_server_custom_domains.names import Domain, DomainReader, NotPublishable
from tunnel_server_custom_domains.proof import Asker, Proofs, Verdict
from tunnel_server_custom_domains.resolver import DnsSource, ResolverOptions
from tunnel_server_custom_domains.settings import SETTINGS
from tunnel_server_custom_domains.texts import not_mapped, refusal
from tunnel_server_custom_domains.watch import Watch, WatchRules, holdings

CERTIFICATE_AGE = 60.0  # seconds; visitors make the server ask, and one host is looked up no more often for them

log = structlog.get_logger()

_OUTCOMES = {
    Verdict.HOLDS: "proved",
    Verdict.ABSENT: "not_proved",
    Verdict.UNKNOWN: "unknown",
    Verdict.LIMITED: "limited",
}


class CustomDomains:
    """Gives tunnels whole host names."""

    def __init__(self) -> None:
        self._metrics = Metrics()
        self._file: MapFile | None = None
        self._settings: Mapping[str, Any] = {}

    @hookimpl
    def register_settings(self) -> Sequence[Setting]:
        return SETTINGS

    @hookimpl
    def register_metrics(self) -> Sequence[Any]:
        return self._metrics.collectors

    @hookimpl
    def configure(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        if settings["cache_shortest"] > settings["cache_longest"]:
            raise ValueError("cache_shortest is longer than cache_longest")
        if settings["map_file"]:
            self._file = MapFile(Path(settings["map_file"]), self._metrics)
            try:
                self._file.load()
            except BadMap as error:
                raise ValueError(f"map_file {settings['map_file']}: {error}") from None
        elif not settings["dns"]:
            raise ValueError("dns is off and there is no map_file: nobody could have a domain")

    @hookimpl
    async def startup(self, server: Server) -> None:
        chosen = self._settings
        self._server = server
        self._reader = DomainReader(server.base.hostname, chosen["suffixes"], chosen["wildcards"])
        self._budget = Budget(chosen["lookups_per_minute"], time.monotonic)
        self._lookups = self._make_lookups() if chosen["dns"] else None
        self._proofs = Proofs(self._map, self._lookups, chosen["parents"])
        self._watch = Watch(
            self._proofs, WatchRules(chosen["recheck_interval"], chosen["recheck_failures"]), self._metrics
        )
        server.spawn(self._watch.run(server, self._domain_of))
        if self._file is not None:
            server.spawn(self._file.watch(self._map_changed))

    @hookimpl
    async def shutdown(self) -> None:
        if self._lookups is not None:
            await self._lookups.stop()

    @hookimpl
    async def name_tunnel(self, client: Client, request: ForwardRequest) -> str | Reject | None:
        try:
            domain = self._reader.read(request.name)
        except NotPublishable as error:
            self._metrics.name("not_publishable")
            return Reject(str(error))
        return None if domain is None else await self._decide(client, domain)

    @hookimpl
    async def prove_domain(self, host: str) -> bool | None:
        try:
            asked = self._reader.read(host)
        except NotPublishable:
            return False
        if asked is None:
            return None  # a name of the server's own
        tunnel = self._server.find(host)
        if tunnel is None:
            return False
        domain = self._domain_of(tunnel)
        if domain is None:
            return None  # another plugin gave it the name, and has to answer for it
        finding = await self._proofs.find(domain, fingerprint(tunnel.client.public_key), age=CERTIFICATE_AGE)
        return finding.verdict is Verdict.HOLDS

    async def _decide(self, client: Client, domain: Domain) -> str | Reject:
        who = network(client.address)
        spend = partial(self._budget.take, f"address {who}", f"key {client.thumbprint}")
        key = fingerprint(client.public_key)
        finding = await self._proofs.find(domain, key, Asker(who, spend))
        self._metrics.name(_OUTCOMES[finding.verdict])
        if finding.verdict is Verdict.HOLDS:
            log.info("custom-domains.proved", host=domain.name, by=finding.where, fingerprint=key)
            return domain.name
        if self._lookups is None:
            return Reject(not_mapped(domain, key))
        return Reject(refusal(domain, key, finding, self._server.base.hostname))

    def _domain_of(self, tunnel: Tunnel) -> Domain | None:
        """Return the domain that this plugin gave a tunnel; it is worked out anew, so nothing can go stale."""
        try:
            domain = self._reader.read(tunnel.request.name)
        except NotPublishable:
            return None
        return domain if domain is not None and domain.name in tunnel.names else None

    def _map(self) -> HostMap:
        return HostMap() if self._file is None else self._file.map

    def _map_changed(self, before: HostMap, after: HostMap) -> None:
        held = holdings(self._server.tunnels(), self._domain_of)
        self._server.spawn(self._watch.map_changed(self._server, held, before, after))

    def _make_lookups(self) -> Lookups:
        chosen = self._settings
        source = DnsSource(ResolverOptions(chosen["name_servers"], chosen["try_timeout"], chosen["lookup_timeout"]))
        rules = CacheRules(
            chosen["cache_names"], chosen["cache_shortest"], chosen["cache_longest"], chosen["cache_absent"]
        )
        return Lookups(source, rules, self._metrics, time.monotonic)
