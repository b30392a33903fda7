"""Certificates of a CA (RFC 8555): which to order, when, and when again after a failure.

Times are Unix seconds. A clock that is set back makes no wait endless: what lies further ahead than any rule can
put it is over.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from tunnel_server.domain.errors import OrderFailed
from tunnel_server.domain.signable import parent

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0

FIRST_RETRY = MINUTE
LONGEST_RETRY = DAY
LONGEST_OUTAGE = HOUR  # a CA that is back is noticed within this
LONGEST_ORDERED_WAIT = 7 * DAY  # the longest that a CA's Retry-After is heeded
GROWTH = 3  # five tries in the first hour, the failures a host may have with Let's Encrypt
JITTER = 0.25  # of a delay
RENEW_AT = 2 / 3  # of a certificate's life
RENEWAL_JITTER = 0.05  # of its life, both ways


def renewal_time(not_before: float, not_after: float, random: Callable[[], float], ordered: float = 0.0) -> float:
    """Return when to renew a certificate: at two thirds of its life, give or take 5 % of it.

    One that was just ``ordered`` is left alone for a tenth of its life, and for a minute: where the clock is wrong,
    or the life next to nothing, it would be ordered without end. ``random`` gives evenly distributed values from 0
    up to 1.
    """
    life = max(not_after - not_before, 0.0)
    at = not_before + life * (RENEW_AT + RENEWAL_JITTER * (2 * random() - 1))
    return max(at, ordered + max(life / 10, MINUTE))


def retry_delay(failures: int, random: Callable[[], float]) -> float:
    """Return the seconds to wait after so many failures in a row, at least one: a minute, then thrice as long each
    time, up to a day; with a quarter of jitter, upwards until the limit.
    """
    grown = FIRST_RETRY * float(GROWTH) ** min(failures - 1, 10)
    return min(grown * (1 + JITTER * random()), LONGEST_RETRY)


@dataclass(frozen=True, slots=True)
class IssuanceLimits:
    """What visitors can make the server order. Renewals and fixed hosts count too, and are never held up by it.

    The defaults stay below Let's Encrypt's: 300 orders in 3 hours, 50 certificates a domain and 5 a host in a week.
    """

    per_hour: int = 40  # orders
    per_day: int = 300
    parent_per_day: int = 7
    host_per_day: int = 3
    queue: int = 100  # hosts that wait for their first order
    hosts: int = 1000  # held at once, fixed ones included
    remembered: int = 10_000  # hosts that failed


class Issuance:
    """Decides which host to order next. No method awaits, and those that visitors can reach take constant time.

    The caller orders one host at a time: after :meth:`next` gave one, it says how that went by :meth:`hold`,
    :meth:`failed`, or :meth:`skip` before it asks again. ``random`` gives values from 0 up to 1.
    """

    def __init__(self, limits: IssuanceLimits, random: Callable[[], float]) -> None:
        self._limits = limits
        self._random = random
        self._orders = _Orders(limits)
        self._queue: dict[str, None] = {}  # in the order they were asked for
        self._queued_of: Counter[str] = Counter()  # how many of a parent
        self._held: dict[str, float] = {}  # when to order each
        self._failures: dict[str, tuple[int, float]] = {}  # how many in a row, and when they are over
        self._outages = 0  # in a row
        self._resume = 0.0

    def __contains__(self, host: str) -> bool:
        """Return whether ``host`` is held, or waits."""
        return host in self._held or host in self._queue

    @property
    def waiting(self) -> int:
        """How many hosts wait for their first order since visitors asked for them."""
        return len(self._queue)

    @property
    def held(self) -> int:
        """How many hosts are held."""
        return len(self._held)

    def ask(self, host: str, now: float) -> str | None:
        """Queue ``host`` for a visitor, or return why not; asking for one that is known changes nothing."""
        if host in self:
            return None
        if self._backs_off(host, now):
            return "it failed a short while ago"
        if len(self._held) + len(self._queue) >= self._limits.hosts:
            return "as many hosts as may be are held"
        if len(self._queue) >= self._limits.queue:
            return "the queue is full"
        if self._queued_of[parent(host)] >= self._limits.parent_per_day:
            return f"as many hosts of {parent(host)} as may be wait already"
        reason = self._orders.spent(host, now)
        if reason is None:
            self._queue[host] = None
            self._queued_of[parent(host)] += 1
        return reason

    def hold(self, host: str, at: float) -> None:
        """Order ``host`` at ``at``, whatever came of it before: it is fixed, or has a certificate to renew."""
        self._held.pop(host, None)  # so that each has its turn
        self._held[host] = at
        self._unqueue(host)
        self._failures.pop(host, None)

    def issued(self) -> None:
        """Note that the CA gave a certificate: it is there."""
        self._outages = 0

    def skip(self, host: str, until: float | None = None) -> None:
        """Note that ``host`` was not ordered after all: it is held until then, or no more, unless a visitor asks."""
        self._orders.take_back()
        if until is None:
            self._held.pop(host, None)
        else:
            self.hold(host, until)

    def failures(self, host: str) -> int:
        """Return how often in a row ``host`` failed."""
        return self._failures.get(host, (0, 0.0))[0]

    def next(self, now: float) -> str | None:
        """Return the host to order now, if any, and count it: the first of those held that is due, else the first
        in the queue that its limits let pass. What they do not let pass leaves the queue.
        """
        if _waits(self._resume, now):
            return None
        for host, at in self._held.items():
            if at <= now and not self._backs_off(host, now):
                self._orders.add(host, now)
                return host
        while self._queue and not self._orders.all_spent(now):
            host = next(iter(self._queue))
            self._unqueue(host)
            if self._orders.spent(host, now) is None:
                self._orders.add(host, now)
                return host
        return None

    def failed(self, host: str, now: float, failure: OrderFailed) -> float:
        """Note that the order of ``host`` failed; returns when it may be tried again, at the earliest.

        A host that is held is tried again by itself, after the others; another when a visitor asks. An outage keeps
        all waiting, and counts as no order.
        """
        asked = min(failure.retry_after or 0.0, LONGEST_ORDERED_WAIT)
        if failure.outage:
            self._outages += 1
            self._orders.take_back()
            delay = max(min(retry_delay(self._outages, self._random), LONGEST_OUTAGE), min(asked, DAY))
            again = self._resume = now + delay
        else:
            self._outages = 0
            count = self.failures(host) + 1
            again = now + max(retry_delay(count, self._random), asked)
            self._remember(host, count, again)
        if host in self._held:
            self._held[host] = self._held.pop(host)
        return again

    def _unqueue(self, host: str) -> None:
        if host in self._queue:
            del self._queue[host]
            _uncount(self._queued_of, parent(host))

    def _backs_off(self, host: str, now: float) -> bool:
        return _waits(self._failures.get(host, (0, 0.0))[1], now)

    def _remember(self, host: str, count: int, again: float) -> None:
        self._failures.pop(host, None)  # so that the oldest is the first
        while len(self._failures) >= self._limits.remembered:
            del self._failures[next(iter(self._failures))]
        self._failures[host] = (count, again)


def _uncount(counts: Counter[str], key: str) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


def _waits(until: float, now: float) -> bool:
    return now < until <= now + LONGEST_ORDERED_WAIT


class _Orders:
    """The orders of the last day, counted."""

    def __init__(self, limits: IssuanceLimits) -> None:
        self._limits = limits
        self._day: deque[tuple[float, str]] = deque()
        self._hour: deque[float] = deque()
        self._counts: Counter[str] = Counter()  # of a host, and of a parent behind a dot

    def add(self, host: str, now: float) -> None:
        self._expire(now)
        self._day.append((now, host))
        self._hour.append(now)
        self._counts.update((host, "." + parent(host)))

    def all_spent(self, now: float) -> str | None:
        """Return why nothing may be ordered."""
        self._expire(now)
        if len(self._hour) >= self._limits.per_hour:
            return "the orders of this hour are spent"
        if len(self._day) >= self._limits.per_day:
            return "the orders of this day are spent"
        return None

    def spent(self, host: str, now: float) -> str | None:
        """Return why ``host`` may not be ordered."""
        if reason := self.all_spent(now):
            return reason
        if self._counts[host] >= self._limits.host_per_day:
            return "the host's orders of this day are spent"
        if self._counts["." + parent(host)] >= self._limits.parent_per_day:
            return f"the orders of this day for {parent(host)} are spent"
        return None

    def take_back(self) -> None:
        """Uncount the last order added, if its time is not over."""
        if self._day:
            self._forget(self._day.pop()[1])
        if self._hour:
            self._hour.pop()

    def _expire(self, now: float) -> None:
        while self._hour and not now - HOUR < self._hour[0] <= now:
            self._hour.popleft()
        while self._day and not now - DAY < self._day[0][0] <= now:
            self._forget(self._day.popleft()[1])

    def _forget(self, host: str) -> None:
        _uncount(self._counts, host)
        _uncount(self._counts, "." + parent(host))
