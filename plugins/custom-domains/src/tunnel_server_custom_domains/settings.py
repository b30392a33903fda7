"""The settings, as ``TUNNEL_SERVER_CUSTOM_DOMAINS_<NAME>``."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import NamedTuple

from tunnel_server import Setting, reading

_DNS_PORT = 53
# a port behind a bare IPv6 address could be its last group
_SERVER = re.compile(r"\[([^]]+)](?::([0-9]+))?|([^][:]+)(?::([0-9]+))?|([^][]+)")


class NameServer(NamedTuple):
    """An address and a port; as text, what the setting reads."""

    address: str
    port: int = _DNS_PORT

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def name_servers(value: str) -> tuple[NameServer, ...]:
    """Read addresses, each with or without a port, separated by commas or blanks."""
    return tuple(_server(word) for word in value.replace(",", " ").split())


def _server(word: str) -> NameServer:
    match = _SERVER.fullmatch(word)
    try:
        if match is None:
            raise ValueError
        port = match[2] or match[4]
        address = str(ip_address(match[1] or match[3] or match[5]))
        return NameServer(address, reading.whole(1, 65535)(port)) if port else NameServer(address)
    except ValueError:
        raise ValueError(f"has {word!r}, which is not an address, or an address and a port") from None


SETTINGS = [
    Setting(
        name="dns",
        help="whether a TXT record _tunnel.<domain> proves a domain",
        default=True,
        read=reading.boolean,
    ),
    Setting(
        name="map_file",
        help="file of host patterns and the fingerprints of the keys that may have them; read again when it changes",
        example="/etc/tunnel-server/domains",
    ),
    Setting(
        name="parents",
        help="whether a record of a parent domain proves the domains below it, too",
        default=False,
        read=reading.boolean,
    ),
    Setting(
        name="wildcards",
        help="whether *.preview.example.com may be had",
        default=True,
        read=reading.boolean,
    ),
    Setting(
        name="suffixes",
        help="endings below which anybody may have a domain, beside the public suffix list: those of a private network",
        default=(),
        read=reading.plain_host_names,
        example="internal, corp.example",
    ),
    Setting(
        name="name_servers",
        help="recursive name servers to ask, the system's if there is none",
        default=(),
        read=name_servers,
        example="192.0.2.53, [2001:db8::53]:5353",
        limits="addresses, each with or without a port",
    ),
    Setting(
        name="try_timeout",
        help="seconds until the next name server is asked",
        default=1.5,
        read=reading.duration(0.05, 30),
        limits="0.05 to 30 s",
    ),
    Setting(
        name="lookup_timeout",
        help="seconds for one look-up, all tries together; keep it below hook_timeout",
        default=4.0,
        read=reading.duration(0.1, 60),
        limits="0.1 to 60 s",
    ),
    Setting(
        name="lookups_per_minute",
        help="look-ups that one key, and one address (64 bits of an IPv6 address), may cause",
        default=60,
        read=reading.whole(1, 100_000),
        limits="1 to 100,000",
    ),
    Setting(
        name="cache_names",
        help="names whose records are remembered",
        default=10_000,
        read=reading.whole(1, 1_000_000),
        limits="1 to 1,000,000",
    ),
    Setting(
        name="cache_shortest",
        help="shortest time that a record found is remembered, whatever its TTL",
        default=30.0,
        read=reading.duration(0, 86_400),
        limits="0 to 24 h",
    ),
    Setting(
        name="cache_longest",
        help="longest time that a record found is remembered",
        default=3600.0,
        read=reading.duration(0, 86_400),
        limits="0 to 24 h",
    ),
    Setting(
        name="cache_absent",
        help="longest time that the absence of a record is remembered",
        default=30.0,
        read=reading.duration(0, 3600),
        limits="0 to 1 h",
    ),
    Setting(
        name="recheck_interval",
        help="time after which the proofs of live tunnels are looked at again",
        default=300.0,
        read=reading.duration(1, 86_400),
        limits="1 s to 24 h",
    ),
    Setting(
        name="recheck_failures",
        help="looks in a row that must find no proof, each answered by a name server, before a tunnel is closed",
        default=3,
        read=reading.whole(1, 100),
        limits="1 to 100",
    ),
]
