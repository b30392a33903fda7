"""Bounding those who have not proved anything yet."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

_M = TypeVar("_M", bound=Hashable)


class Crowd(Generic[_M]):
    """At most ``capacity`` members; when there are more, the address with the most loses its oldest.

    So a flood from one address displaces itself, and a newcomer from elsewhere still gets in.
    """

    __slots__ = ("_by_address", "_capacity", "_members")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._members: dict[_M, str] = {}
        self._by_address: dict[str, dict[_M, None]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[_M]:
        return iter(self._members)

    def add(self, member: _M, address: str) -> _M | None:
        """Count ``member`` in; return whom it displaced, who is not counted any more."""
        displaced = None
        if len(self._members) >= self._capacity:
            busiest = max(self._by_address.values(), key=len)
            displaced = next(iter(busiest))
            self.remove(displaced)
        self._members[member] = address
        self._by_address.setdefault(address, {})[member] = None
        return displaced

    def remove(self, member: _M) -> None:
        """``member`` has proved itself, or is gone. Safe to repeat."""
        address = self._members.pop(member, None)
        if address is not None:
            theirs = self._by_address[address]
            del theirs[member]
            if not theirs:
                del self._by_address[address]
