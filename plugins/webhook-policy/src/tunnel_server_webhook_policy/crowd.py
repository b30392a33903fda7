"""How many questions wait at once: of all, and of one source."""

from __future__ import annotations

from ipaddress import ip_address


class Crowd:
    """Counts who waits. One source may not have more than its share, however much room is left."""

    def __init__(self, limit: int, share: int) -> None:
        self._limit = limit
        self._share = share
        self._waiting = 0
        self._of: dict[str, int] = {}

    def enter(self, source: str) -> bool:
        """Return whether one more of ``source`` may wait; each that may is followed by one :meth:`leave`."""
        if self._waiting >= self._limit or self._of.get(source, 0) >= self._share:
            return False
        self._waiting += 1
        self._of[source] = self._of.get(source, 0) + 1
        return True

    def leave(self, source: str) -> None:
        """Note that one of ``source`` waits no more."""
        self._waiting -= 1
        self._of[source] -= 1
        if not self._of[source]:
            del self._of[source]


def network(address: str) -> str:
    """Return the network that one person is taken for: an IPv4 address, 64 bits of an IPv6 address."""
    try:
        found = ip_address(address.partition("%")[0].partition("/")[0])
    except ValueError:
        return address
    if found.version == 6 and found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(found) if found.version == 4 else found.exploded[:19]
