"""The hooks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

import structlog

from tunnel_server import DnsChallenge, Server, Setting, hookimpl
from tunnel_server_dns_challenge.faults import Faults
from tunnel_server_dns_challenge.metrics import Metrics
from tunnel_server_dns_challenge.rates import Rates
from tunnel_server_dns_challenge.settings import SETTINGS
from tunnel_server_dns_challenge.sockets import Pair, bind
from tunnel_server_dns_challenge.tcp import TcpServer
from tunnel_server_dns_challenge.turns import Turns
from tunnel_server_dns_challenge.udp import UdpServer
from tunnel_server_dns_challenge.zones import Zones

CHALLENGE = "_acme-challenge."  # RFC 8555 §8.4

log = structlog.get_logger()


class NameServer:
    """Answers DNS-01 challenges by itself: an authoritative name server for the names that a CA looks at."""

    def __init__(self) -> None:
        self._metrics = Metrics()
        self._settings: Mapping[str, Any] = {}
        self._pairs: list[Pair] = []

    @hookimpl
    def register_settings(self) -> Sequence[Setting]:
        return SETTINGS

    @hookimpl
    def register_metrics(self) -> Sequence[Any]:
        return self._metrics.collectors

    @hookimpl
    def configure(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings

    @hookimpl
    async def startup(self, server: Server) -> None:
        chosen, base = self._settings, server.base.hostname
        if not chosen["ns_name"] and _is_address(base):
            raise ValueError(
                f"the base URL's host {base} is an address, for which there is no challenge by DNS:"
                " set BASE_URL to a URL with a host name"
            )
        self._zones = Zones([CHALLENGE + base, *chosen["zones"]], chosen["ns_name"] or base)
        self._pairs = await bind(chosen["listen_host"], chosen["port"])
        rates, turns, faults = Rates(time.monotonic), Turns(time.perf_counter), Faults(time.monotonic)
        for udp, tcp in self._pairs:
            datagrams = UdpServer(udp, self._zones, rates, turns, self._metrics, faults)
            connections = TcpServer(tcp, self._zones, turns, self._metrics, faults)
            server.spawn(faults.keep("all of UDP", datagrams.serve))
            server.spawn(faults.keep("all of TCP", connections.serve))
        log.info("dns-challenge.listening", port=chosen["port"], records_needed=", ".join(self._zones.delegations))

    @hookimpl
    async def shutdown(self) -> None:
        for pair in self._pairs:
            pair.close()

    @hookimpl
    def dns_challenge(self) -> DnsChallenge:
        return self._zones


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
