"""The zones that are answered for, and what is published in them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import dns.name
import dns.rdata
import structlog

from tunnel_server import DnsChallenge

RECORD_TTL = 0  # seconds: the next challenge has another value under the same name, and a CA may ask at once
NS_TTL = 300
# Zones whose last value is gone, and that are answered for all the same: a CA may ask late, and avoids who refuses.
MAX_EMPTY = 100
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
    reads a value that is another host's gains nothing. Besides ``names``, a name is a zone while it has a value, and
    until :data:`MAX_EMPTY` others have lost their last one after it.
    """

    def __init__(self, names: Iterable[str], ns_name: str) -> None:
        name_server = dns.name.from_text(ns_name)
        self.soa = _wire("SOA", f"{name_server} hostmaster.{name_server} {_TIMES}")
        self.ns = _wire("NS", name_server.to_text())
        self._name_server = name_server
        self._names = [dns.name.from_text(name) for name in names]
        self._apexes = {_key(name) for name in self._names}
        self._lasting = frozenset(self._apexes)
        self._empty: OrderedDict[bytes, None] = OrderedDict()  # that are not lasting; the first emptied first
        self._texts: dict[bytes, dict[str, _Text]] = {}  # by apex and value

    @property
    def delegations(self) -> list[str]:
        """The records by which others learn to ask here, as in a zone file; those of ``names``."""
        return [self._delegation(name) for name in self._names]

    def find(self, name: bytes) -> int | None:
        """Return where in ``name``, in wire format, its zone's apex begins, of several the nearest; ``None``: no zone.

        Takes as long as the name is, however many zones there are.
        """
        folded, at = name.lower(), 0  # the labels' lengths stay: they are less than any letter
        while folded[at:] not in self._apexes:
            if not folded[at]:
                return None
            at += 1 + folded[at]
        return at

    def texts(self) -> list[bytes]:
        """Return the data of the TXT records for whoever asks, and note that somebody did."""
        texts = [text for values in self._texts.values() for text in values.values()]
        for text in texts:
            text.asked = True
        return [text.data for text in texts]

    async def publish(self, name: str, value: str) -> None:
        """Publish at once. A name that is no zone is one from now on."""
        zone, text = dns.name.from_text(name), value.encode("ascii")
        data = bytes([len(text)]) + text  # one string, RFC 1035 §3.3.14
        apex = _key(zone)
        if apex not in self._apexes:
            self._apexes.add(apex)
            log.info("dns-challenge.zone-added", record=self._delegation(zone))
        self._empty.pop(apex, None)
        self._texts.setdefault(apex, {})[value] = _Text(data)

    async def remove(self, name: str, value: str) -> None:
        """Take it back; if nobody has asked for it, say what may be wrong."""
        zone = dns.name.from_text(name)
        apex = _key(zone)
        values = self._texts.get(apex, {})
        text = values.pop(value, None)
        if text is None:
            return
        if not values:
            del self._texts[apex]
            self._emptied(apex)
        if not text.asked:
            log.warning(
                "dns-challenge.not-asked",
                name=name,
                reason="nobody asked for the record: does port 53, UDP and TCP, lead to this server,"
                " and does the domain have the record by which others know?",
                record=self._delegation(zone),
            )

    def _emptied(self, apex: bytes) -> None:
        if apex in self._lasting:
            return
        self._empty[apex] = None
        if len(self._empty) > MAX_EMPTY:
            self._apexes.remove(self._empty.popitem(last=False)[0])

    def _delegation(self, zone: dns.name.Name) -> str:
        return f"{zone} NS {self._name_server}"


def _key(name: dns.name.Name) -> bytes:
    """Return a name as names are compared: in wire format, without capitals."""
    return name.to_digestable()


def _wire(rdtype: str, text: str) -> bytes:
    wire = dns.rdata.from_text("IN", rdtype, text).to_wire()
    assert wire is not None  # as it was to be written to no file
    return wire
