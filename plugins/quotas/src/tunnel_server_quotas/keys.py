"""The meters of all keys."""

from __future__ import annotations

from heapq import nsmallest
from typing import TYPE_CHECKING

from tunnel_server_quotas.meter import Meter
from tunnel_server_quotas.meters import Meters, Room

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 20_000  # keys


class KeyMeter(Meter):
    """One key's meter, and those of its visitors and tunnels. All its requests count as running here."""

    __slots__ = ("tunnels", "visitors")

    def __init__(self, room: Room) -> None:
        super().__init__()
        self.visitors = Meters(room)
        self.tunnels = Meters(room)

    def forget(self, now: float) -> bool:
        """Drop what is idle; return whether anything is left."""
        visitors, tunnels = self.visitors.forget(now), self.tunnels.forget(now)
        return visitors or tunnels or not self.idle(now)


class Keys:
    """Knows the meters of each key, by its thumbprint.

    When there are too many, those go first whose bucket is nearest to full; none goes while a request runs. Who makes
    ever new keys to get there gets no more than by making a new key each time.
    """

    def __init__(self) -> None:
        self.room = Room()
        self.running = 0
        self._keys: dict[str, KeyMeter] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def of(self, thumbprint: str, now: float) -> KeyMeter:
        """Return the meter of a key, made if there is none."""
        key = self._keys.get(thumbprint)
        return self._made(thumbprint, now) if key is None else key

    def forget(self, now: float) -> Iterator[None]:
        """Drop what is idle of one key at each step: there may be a lot to look at, and others have something to do."""
        for thumbprint, key in list(self._keys.items()):
            if not key.forget(now) and self._keys.get(thumbprint) is key:
                del self._keys[thumbprint]
            yield

    def _made(self, thumbprint: str, now: float) -> KeyMeter:
        if len(self._keys) >= MOST:
            self._make_room()
        key = self._keys[thumbprint] = KeyMeter(self.room)
        return key

    def _make_room(self) -> None:
        quiet = ((key.due, thumbprint) for thumbprint, key in self._keys.items() if not key.running)
        for _, thumbprint in nsmallest(MOST // 10, quiet):
            key = self._keys.pop(thumbprint)
            key.visitors.clear()
            key.tunnels.clear()
