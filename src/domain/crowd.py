"""Bounding those who have not proved anything yet."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

FEW = 8  # members of one address that are no flood: a browser opens six connections at once

_M = TypeVar("_M", bound=Hashable)


class Crowd(Generic[_M]):
    """At most ``capacity`` members; when there are more, the address with the most loses its oldest.

    So a flood from one address displaces itself, and a newcomer from elsewhere still gets in. If no address has more
    than a :data:`FEW`, the oldest of all goes: it had the longest time to prove itself. Every method takes the same
    time however many members and addresses there are.
    """

    __slots__ = ("_by_address", "_by_count", "_capacity", "_few", "_members", "_most")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._few = min(FEW, capacity // 4)
        self._members: dict[_M, str] = {}
        self._by_address: dict[str, dict[_M, None]] = {}
        self._by_count: dict[int, dict[str, None]] = {}  # addresses by how many members they have
        self._most = 0

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[_M]:
        return iter(self._members)

    def __contains__(self, member: _M) -> bool:
        return member in self._members

    def add(self, member: _M, address: str) -> _M | None:
        """Count ``member`` in; return whom it displaced, who is not counted any more."""
        displaced = None
        if self._members and len(self._members) >= self._capacity:
            displaced = self._least_welcome()
            self.remove(displaced)
        self._members[member] = address
        theirs = self._by_address.setdefault(address, {})
        theirs[member] = None
        self._recount(address, len(theirs) - 1, len(theirs))
        return displaced

    def remove(self, member: _M) -> None:
        """``member`` has proved itself, or is gone. Safe to repeat."""
        address = self._members.pop(member, None)
        if address is not None:
            theirs = self._by_address[address]
            del theirs[member]
            self._recount(address, len(theirs) + 1, len(theirs))
            if not theirs:
                del self._by_address[address]

    def _least_welcome(self) -> _M:
        if self._most > self._few:
            return next(iter(self._by_address[next(iter(self._by_count[self._most]))]))
        return next(iter(self._members))

    def _recount(self, address: str, before: int, now: int) -> None:
        if before:
            alike = self._by_count[before]
            del alike[address]
            if not alike:
                del self._by_count[before]
                if before == self._most:
                    self._most = now  # one more or one less than before
        if now:
            self._by_count.setdefault(now, {})[address] = None
            self._most = max(self._most, now)
