"""The bytes that each key transferred today."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil

MOST = 50_000  # keys that are known by themselves
DAY = 86_400  # seconds; days of UTC begin at multiples of it (POSIX.1 §4.16)


@dataclass(frozen=True, slots=True)
class Account:
    """The counts of one ``day``, numbered from the epoch; ``floor`` is that of each key which is not in ``spent``."""

    day: int
    floor: int = 0
    spent: dict[str, int] = field(default_factory=dict)


class Ledger:
    """Counts by thumbprint, from 0 at each midnight of UTC; ``clock`` gives seconds since the epoch.

    When there are too many keys, the half with the least is forgotten, and what the most of these had is what every
    unknown key has from then on. So nobody gets bytes back by being forgotten, which one who makes ever new keys could
    bring about, and a newcomer is charged little (the idea is that of Metwally's Space-Saving counters).
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._account = Account(self._today())
        self.changes = 0

    def __len__(self) -> int:
        return len(self._account.spent)

    def spent(self, thumbprint: str) -> int:
        """Return the octets of a key today."""
        account = self._current()
        return account.spent.get(thumbprint, account.floor)

    def add(self, thumbprint: str, octets: int) -> None:
        """A request of a key transferred ``octets``; they count for the day on which it ended."""
        account = self._current()
        spent = account.spent
        if thumbprint not in spent and len(spent) >= MOST:
            account = self._account = _halved(account)
            spent = account.spent
        spent[thumbprint] = spent.get(thumbprint, account.floor) + octets
        self.changes += 1

    def until_midnight(self) -> int:
        """Return the whole seconds until the next day begins, 1 at least."""
        self._current()
        return max(1, ceil((self._account.day + 1) * DAY - self._clock()))

    def copy(self) -> Account:
        """Return today's counts as they are now."""
        account = self._current()
        return Account(account.day, account.floor, dict(account.spent))

    def restore(self, account: Account) -> bool:
        """Go on with counts that were kept; return whether they are of today."""
        if account.day != self._today():
            return False
        self._account = account
        return True

    def _today(self) -> int:
        return int(self._clock() // DAY)

    def _current(self) -> Account:
        today, day = self._today(), self._account.day
        # A clock that is set back over midnight by a little must not give everybody another day.
        if today > day or today < day - 1:
            self._account = Account(today)
            self.changes += 1
        return self._account


def _halved(account: Account) -> Account:
    floor = sorted(account.spent.values())[len(account.spent) // 2]
    return Account(account.day, floor, {key: octets for key, octets in account.spent.items() if octets > floor})
