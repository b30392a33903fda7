"""The meters of one key's visitors or tunnels: as many as there is room for, the others share."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING, TypeVar

from tunnel_server_quotas.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 4096  # meters of one key's visitors, and as many of its tunnels
OWN = 16  # of which it has these however many other keys have
MOST_OF_ALL = 100_000  # over all keys, besides those
SHARED = 64  # meters that newcomers share once there is no room
LOOK = 1.0  # seconds between two searches of a full table for what can be forgotten

_K = TypeVar("_K")


class Room:
    """Counts the meters of all keys, and those requests that had to share one."""

    __slots__ = ("shared", "taken")

    def __init__(self) -> None:
        self.taken = 0
        self.shared = 0


class Meters:
    """Meters by name.

    One is forgotten only when it is idle, so nobody can push another's out and come back as new. What comes when the
    table is full shares a meter with others, by its network and a secret of the process: a flood out of one IPv6
    network of 48 bits, or one of IPv4 of 24 bits, shares one, and few others do with it.
    """

    __slots__ = ("_look_at", "_meters", "_room", "_shared")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._meters: dict[str, Meter] = {}
        self._shared: dict[int, Meter] = {}
        self._look_at = 0.0

    def __len__(self) -> int:
        return len(self._meters)

    def of(self, name: str, now: float) -> Meter:
        """Return the meter of ``name``, made if there is none."""
        meter = self._meters.get(name)
        return self._made(name, now) if meter is None else meter

    def forget(self, now: float) -> bool:
        """Drop what is idle; return whether anything is left."""
        before = len(self._meters)
        self._meters = dict(_busy(self._meters, now))
        self._room.taken -= before - len(self._meters)
        self._shared = dict(_busy(self._shared, now))
        return bool(self._meters or self._shared)

    def clear(self) -> None:
        """Drop all."""
        self._room.taken -= len(self._meters)
        self._meters.clear()
        self._shared.clear()

    def _made(self, name: str, now: float) -> Meter:
        if not self._has_room() and now >= self._look_at:
            self._look_at = now + LOOK
            self.forget(now)
        if not self._has_room():
            self._room.shared += 1
            return self._shared.setdefault(hash(network_of(name)) % SHARED, Meter())
        self._room.taken += 1
        meter = self._meters[name] = Meter()
        return meter

    def _has_room(self) -> bool:
        held = len(self._meters)
        return held < OWN or (held < MOST and self._room.taken < MOST_OF_ALL)


def network_of(name: str) -> str:
    """Return the network of a visitor's address, 48 bits of IPv6 or 24 of IPv4; what is no address stays."""
    try:
        network = ip_network(name, strict=False)
    except ValueError:
        return name
    return str(network.supernet(new_prefix=min(network.prefixlen, 48 if network.version == 6 else 24)))


def _busy(meters: dict[_K, Meter], now: float) -> Iterator[tuple[_K, Meter]]:
    return ((name, meter) for name, meter in meters.items() if not meter.idle(now))
