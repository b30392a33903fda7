"""Look-ups that are cached, shared, and bounded in number."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from tunnel_server_custom_domains.metrics import Metrics
from tunnel_server_custom_domains.resolver import LookupFailed, Records, TxtSource

MAX_AT_ONCE = 200  # of all sources; more wait
MAX_OF_SOURCE = 8  # at once: one whose name servers are silent keeps nobody else waiting
FAILURE_TTL = 5.0  # seconds in which nobody is asked again about a name that nobody could tell of


class TooManyLookups(Exception):
    """The source has spent what it may cause."""


@dataclass(frozen=True, slots=True)
class CacheRules:
    """How many names are kept, and in which limits, in seconds, what a zone says of its records' lives is heeded."""

    names: int = 10_000
    shortest: float = 30.0
    longest: float = 3600.0
    longest_absent: float = 30.0


@dataclass(frozen=True, slots=True)
class _Entry:
    fingerprints: frozenset[str] | None  # None: nobody could tell
    at: float
    until: float


class Lookups:
    """Finds the fingerprints at a name. ``clock`` gives seconds that never go back."""

    def __init__(self, source: TxtSource, rules: CacheRules, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._source = source
        self._rules = rules
        self._metrics = metrics
        self._clock = clock
        self._cache: OrderedDict[str, _Entry] = OrderedDict()
        self._running: dict[str, asyncio.Task[frozenset[str]]] = {}
        self._of_source: dict[str, int] = {}
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)

    async def find(
        self, name: str, who: str = "", spend: Callable[[], bool] | None = None, age: float = inf
    ) -> frozenset[str]:
        """Return the fingerprints at ``name``, none if there is no record.

        What was learnt in the last ``age`` seconds is good enough. ``spend`` is asked before the network is; ``who``
        is the source that it is for, which may have eight look-ups at once.

        Raises:
            TooManyLookups: ``spend`` said no, or ``who`` has too many at once.
            LookupFailed: nobody could say.
        """
        entry = self._cache.get(name)
        now = self._clock()
        if entry is not None and now < entry.until and (now - entry.at <= age or entry.fingerprints is None):
            self._metrics.lookup("cached")
            self._cache.move_to_end(name)
            return _told(name, entry.fingerprints)
        task = self._running.get(name)
        if task is None:
            task = self._start(name, who, spend)
        return await asyncio.shield(task)  # others may wait for the same: one that gives up ends nothing

    async def stop(self) -> None:
        """Give up whatever is under way."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _start(self, name: str, who: str, spend: Callable[[], bool] | None) -> asyncio.Task[frozenset[str]]:
        if who and self._of_source.get(who, 0) >= MAX_OF_SOURCE:
            raise TooManyLookups
        if spend is not None and not spend():
            raise TooManyLookups
        self._of_source[who] = self._of_source.get(who, 0) + 1
        task = self._running[name] = asyncio.ensure_future(self._ask(name))
        task.add_done_callback(lambda done: self._ended(name, who, done))
        return task

    def _ended(self, name: str, who: str, task: asyncio.Task[frozenset[str]]) -> None:
        del self._running[name]
        self._of_source[who] -= 1
        if not self._of_source[who]:
            del self._of_source[who]
        if not task.cancelled():
            task.exception()  # those who waited may be gone, and it is counted already

    async def _ask(self, name: str) -> frozenset[str]:
        async with self._slots:
            began = self._clock()
            try:
                records = await self._source.txt(name)
            except LookupFailed:
                self._metrics.lookup("failed", self._clock() - began)
                self._keep_failure(name)
                raise
            self._metrics.lookup("found" if records.fingerprints else "absent", self._clock() - began)
            self._keep(name, records.fingerprints, self._ttl(records))
            return records.fingerprints

    def _ttl(self, records: Records) -> float:
        if not records.fingerprints:
            return min(max(records.ttl, FAILURE_TTL), self._rules.longest_absent)
        return min(max(records.ttl, self._rules.shortest), self._rules.longest)

    def _keep_failure(self, name: str) -> None:
        """Note that nobody could tell; a record that is known and still good stays."""
        entry = self._cache.get(name)
        if entry is None or not entry.fingerprints or entry.until <= self._clock():
            self._keep(name, None, FAILURE_TTL)

    def _keep(self, name: str, found: frozenset[str] | None, ttl: float) -> None:
        now = self._clock()
        self._cache[name] = _Entry(found, now, now + ttl)
        self._cache.move_to_end(name)
        while len(self._cache) > self._rules.names:
            self._cache.popitem(last=False)


def _told(name: str, found: frozenset[str] | None) -> frozenset[str]:
    if found is None:
        raise LookupFailed(f"{name} failed a moment ago")
    return found
