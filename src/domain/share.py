"""Who may have how much of something that many visitors want."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address


class Share:
    """Divides ``capacity`` pieces among visitors: nobody may hold more than are left for others.

    So a visitor alone gets half, each of two a third, and a newcomer always finds one, without anybody
    having to say how many visitors there will be (Choudhury and Hahne's dynamic threshold).
    """

    __slots__ = ("_capacity", "_held", "_total")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: dict[str, int] = {}
        self._total = 0

    def allows(self, visitor: str) -> bool:
        """Return whether ``visitor`` may take one more."""
        return self._held.get(visitor, 0) < self._capacity - self._total

    def take(self, visitor: str) -> None:
        """``visitor`` holds one more."""
        self._held[visitor] = self._held.get(visitor, 0) + 1
        self._total += 1

    def give_back(self, visitor: str) -> None:
        """``visitor`` holds one less."""
        left = self._held[visitor] - 1
        if left:
            self._held[visitor] = left
        else:
            del self._held[visitor]
        self._total -= 1


def one_visitor(address: str) -> str:
    """Return what counts as one visitor: an IPv4 address, or an IPv6 network of 64 bits (RFC 6177), as text.

    What is no address counts as itself.
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Address(int(parsed) >> 64 << 64))
