"""Whether a key has the right to a domain, from the map file and from the domain name system."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from math import inf

from tunnel_server_custom_domains.lookups import Lookups, TooManyLookups
from tunnel_server_custom_domains.mapfile import HostMap
from tunnel_server_custom_domains.names import Domain
from tunnel_server_custom_domains.resolver import LookupFailed


class Verdict(Enum):
    """What is known of a proof."""

    HOLDS = auto()
    ABSENT = auto()  # whoever knows says that there is none
    UNKNOWN = auto()  # nobody could say
    LIMITED = auto()  # the client has caused too many look-ups


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict; ``where`` is the record, or ``map``, that holds the proof; ``others``: other keys are named."""

    verdict: Verdict
    where: str = ""
    others: bool = False


@dataclass(frozen=True, slots=True)
class Asker:
    """For whom a proof is looked for: the source that is limited, and what it spends."""

    who: str = ""
    spend: Callable[[], bool] | None = None


NOBODY = Asker()


class Proofs:
    """Finds proofs. ``lookups`` is ``None`` where the map file alone decides; ``parents`` as :meth:`Domain.records`."""

    def __init__(self, the_map: Callable[[], HostMap], lookups: Lookups | None, parents: bool) -> None:
        self._map = the_map
        self._lookups = lookups
        self._parents = parents

    async def find(self, domain: Domain, fingerprint: str, asker: Asker = NOBODY, age: float = inf) -> Finding:
        """Look for a proof that is not older than ``age`` seconds. One that holds anywhere is enough."""
        if self._map().allows(domain, fingerprint):
            return Finding(Verdict.HOLDS, "map")
        lookups = self._lookups
        if lookups is None:
            return Finding(Verdict.ABSENT)
        records = domain.records(self._parents)
        found = await asyncio.gather(
            *(lookups.find(record, asker.who, asker.spend, age) for record in records), return_exceptions=True
        )
        return _joined(dict(zip(records, found, strict=True)), fingerprint)


def _joined(found: dict[str, frozenset[str] | BaseException], fingerprint: str) -> Finding:
    prints = {record: answer for record, answer in found.items() if not isinstance(answer, BaseException)}
    for record, named in prints.items():
        if fingerprint in named:
            return Finding(Verdict.HOLDS, record)
    errors = [answer for answer in found.values() if isinstance(answer, BaseException)]
    for error in errors:
        if not isinstance(error, LookupFailed | TooManyLookups):
            raise error
    if any(isinstance(error, TooManyLookups) for error in errors):
        return Finding(Verdict.LIMITED)
    if errors:
        return Finding(Verdict.UNKNOWN)
    return Finding(Verdict.ABSENT, others=any(prints.values()))
