"""How many look-ups one source may cause."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address

MAX_SOURCES = 10_000  # that are remembered; the one that asked longest ago is forgotten first


class Budget:
    """Look-ups a minute for each source, all at once or spread. ``clock`` gives seconds that never go back."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # how many, and when that was so

    def take(self, *sources: str) -> bool:
        """Take one look-up from each of ``sources``; with one of them spent, none is taken and the answer is false."""
        now = self._clock()
        left = {source: self._now_left(source, now) for source in sources}
        if any(count < 1 for count in left.values()):
            return False
        for source, count in left.items():
            self._left[source] = (count - 1, now)
            self._left.move_to_end(source)
        while len(self._left) > MAX_SOURCES:
            self._left.popitem(last=False)
        return True

    def _now_left(self, source: str, now: float) -> float:
        count, at = self._left.get(source, (float(self._per_minute), now))
        return min(float(self._per_minute), count + (now - at) * self._per_minute / 60)


def network(address: str) -> str:
    """Return the network of a peer that one person is taken for: an IPv4 address, 64 bits of an IPv6 address."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 6 and found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(found) if found.version == 4 else found.exploded[:19]
