"""The zones that are answered for, and what is published in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import dns.name
import dns.rdata
import structlog

from tunnel_server import DnsChallenge

RECORD_TTL = 0  # seconds: the next challenge has another value under the same name, and a CA may ask at once
NS_TTL = 300
_TIMES = "1 3600 600 86400 0"  # serial, refresh, retry, expire: there are no secondaries; a miss is not remembered

log = structlog.get_logger()


@dataclass(slots=True)
class _Text:
    data: bytes
    asked: bool = False


class Zones(DnsChallenge):
    """Zones of one name each, with TXT records. ``ns_name`` is the name of their only name server. Records' data, also
    ``soa`` and ``ns``, are in wire format.

    Every value stands in every zone, so that an alias (CNAME) may lead from any host's challenge to any of them. Who
    reads a value that is another host's gains nothing.
    """

    def __init__(self, names: Iterable[str], ns_name: str) -> None:
        name_server = dns.name.from_text(ns_name)
        self.soa = _wire("SOA", f"{name_server} hostmaster.{name_server} {_TIMES}")
        self.ns = _wire("NS", name_server.to_text())
        self._name_server = name_server
        self._apexes = [dns.name.from_text(name) for name in names]
        self._texts: dict[tuple[str, str], _Text] = {}

    @property
    def delegations(self) -> list[str]:
        """The records by which others learn to ask here, as in a zone file."""
        return [self._delegation(apex) for apex in self._apexes]

    def find(self, name: dns.name.Name) -> dns.name.Name | None:
        """Return the apex of the zone that ``name`` is in, of several the nearest."""
        return max((apex for apex in self._apexes if name.is_subdomain(apex)), key=len, default=None)

    def texts(self) -> list[bytes]:
        """Return the data of the TXT records for whoever asks, and note that somebody did."""
        for text in self._texts.values():
            text.asked = True
        return [text.data for text in self._texts.values()]

    async def publish(self, name: str, value: str) -> None:
        """Publish at once. A name that is no zone is one from now on."""
        apex = dns.name.from_text(name)
        text = value.encode("ascii")
        if apex not in self._apexes:
            self._apexes.append(apex)
            log.info("dns-challenge.zone-added", record=self._delegation(apex))
        self._texts[name, value] = _Text(bytes([len(text)]) + text)  # one string, RFC 1035 §3.3.14

    async def remove(self, name: str, value: str) -> None:
        """Take it back; if nobody has asked for it, say what may be wrong."""
        text = self._texts.pop((name, value), None)
        if text is not None and not text.asked:
            log.warning(
                "dns-challenge.not-asked",
                name=name,
                reason="nobody asked for the record: does port 53, UDP and TCP, lead to this server,"
                " and does the domain have the record by which others know?",
                record=self._delegation(dns.name.from_text(name)),
            )

    def _delegation(self, apex: dns.name.Name) -> str:
        return f"{apex} NS {self._name_server}"


def _wire(rdtype: str, text: str) -> bytes:
    wire = dns.rdata.from_text("IN", rdtype, text).to_wire()
    assert wire is not None  # as it was to be written to no file
    return wire
