"""TXT records, asked of the domain name system."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

from tunnel_server_custom_domains.fingerprints import named_in


class LookupFailed(Exception):
    """No server answered in time, or none with more than an error: nothing is known."""


@dataclass(frozen=True, slots=True)
class Records:
    """What stands at a name: the fingerprints, none if there is no such name, and for how many seconds that holds."""

    fingerprints: frozenset[str]
    ttl: float


class TxtSource(Protocol):
    """Where TXT records come from."""

    @abstractmethod
    async def txt(self, name: str) -> Records:
        """Return what stands at ``name``, an absolute name without its last dot.

        Raises:
            LookupFailed: nobody could say.
        """


@dataclass(frozen=True, slots=True)
class ResolverOptions:
    """``name_servers`` are addresses and ports, none for the system's. Limits in seconds: of a try, and of all."""

    name_servers: tuple[tuple[str, int], ...] = ()
    try_limit: float = 1.5
    limit: float = 4.0


class DnsSource(TxtSource):
    """Asks recursive name servers, the next when one is silent, by TCP when an answer is too long for UDP."""

    def __init__(self, options: ResolverOptions) -> None:
        self._resolver = dns.asyncresolver.Resolver(configure=not options.name_servers)
        if options.name_servers:
            self._resolver.nameservers = [dns.nameserver.Do53Nameserver(*server) for server in options.name_servers]
        self._resolver.timeout = options.try_limit
        self._resolver.lifetime = options.limit
        self._resolver.cache = None  # ours has bounds of its own, and shares what is asked at the same time

    async def txt(self, name: str) -> Records:
        try:
            answer = await self._resolver.resolve(
                dns.name.from_text(name), dns.rdatatype.TXT, raise_on_no_answer=False, search=False
            )
        except dns.resolver.NXDOMAIN as gone:
            return Records(frozenset(), _negative_ttl(gone))
        except Exception as error:  # whatever a hostile answer does to the library, it ends here
            raise LookupFailed(type(error).__name__) from error
        texts = [_text(record.strings) for record in answer.rrset or ()]
        return Records(named_in(texts), float(answer.chaining_result.minimum_ttl))


def _text(strings: tuple[bytes, ...]) -> str:
    """Join the strings of one record as mail policies do (RFC 7208 §3.3): without anything between."""
    return b"".join(strings).decode("ascii", "replace")


def _negative_ttl(gone: dns.resolver.NXDOMAIN) -> float:
    """Return for how long a name stays unknown: what the zone's SOA says (RFC 2308 §5), 0 if there is none."""
    try:
        message = next(iter(gone.responses().values()))  # type: ignore[no-untyped-call]
        return float(message.resolve_chaining().minimum_ttl) if message.authority else 0.0
    except (dns.exception.DNSException, StopIteration):
        return 0.0
