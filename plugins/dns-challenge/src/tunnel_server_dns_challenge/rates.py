"""How many answers one network gets by UDP, where anybody can write any address on a question."""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum, auto

BURST = 60.0  # answers that a network gets at once
PER_SECOND = 20.0
MAX_NETWORKS = 10_000  # that are remembered; the one that asked longest ago is forgotten first


class Grant(Enum):
    """What a question is worth."""

    WHOLE = auto()
    SHORT = auto()  # an answer no longer than the question, which says to come by TCP
    NONE = auto()


class Rates:
    """``BURST`` whole answers, then as many short ones, and ``PER_SECOND`` more of either each second.

    ``clock`` gives seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left: OrderedDict[bytes, tuple[float, float]] = OrderedDict()  # how many, and when that was so

    def take(self, address: str) -> Grant:
        """Say how to answer a question from ``address``, and count it."""
        who, now = network(address), self._clock()
        count, at = self._left.get(who, (BURST, now))
        left = min(BURST, count + (now - at) * PER_SECOND)
        if left < 1 - BURST:
            return Grant.NONE
        self._left[who] = (left - 1, now)
        self._left.move_to_end(who)
        if len(self._left) > MAX_NETWORKS:
            self._left.popitem(last=False)
        return Grant.WHOLE if left >= 1 else Grant.SHORT


def network(address: str) -> bytes:
    """Return the network of an address, 24 bits of IPv4 or 56 of IPv6: who has one of it may have all."""
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])[:7]
    return socket.inet_pton(socket.AF_INET, address)[:3]
