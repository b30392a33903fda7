"""How many tunnels a key may have: the server knows those that are open, this knows those about to be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tunnel_server import Reject

if TYPE_CHECKING:
    from tunnel_server import Client, Tunnel

OPENING = 15.0  # seconds a place is kept for a tunnel that is to be opened; its name's former holder may take 5 of them

_Names = frozenset[str]


class Openings:
    """Keeps a place for each tunnel that was let pass and is not open yet: several may be asked for at once.

    No hook says that a tunnel was not opened after all; its place is kept for :data:`OPENING` seconds then, unless the
    same key asks for one of its names again. ``clock`` is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[str, dict[_Names, float]] = {}

    def __len__(self) -> int:
        return len(self._until)

    def ask(self, client: Client, names: Iterable[str], limit: int, live: list[Tunnel]) -> Reject | None:
        """Keep a place for a tunnel called ``names``, or return why there is none.

        ``live`` are the key's open tunnels. Those that hold one of the names do not count: the new one takes their
        place, or is not opened.
        """
        wanted = frozenset(names)
        places = self._places(str(client.thumbprint), live)
        others = sum(wanted.isdisjoint(tunnel.names) for tunnel in live)
        others += sum(wanted.isdisjoint(held) for held in places)
        if others >= limit:
            return Reject(reason(others, limit))
        self._until.setdefault(str(client.thumbprint), {})[wanted] = self._clock() + OPENING
        return None

    def opened(self, tunnel: Tunnel) -> None:
        """The server has a tunnel now; its place is no longer kept."""
        thumbprint = str(tunnel.client.thumbprint)
        self._keep(thumbprint, lambda names, _: names.isdisjoint(tunnel.names))

    def forget(self) -> None:
        """Drop places that were kept long enough."""
        now = self._clock()
        for thumbprint in list(self._until):
            self._keep(thumbprint, lambda _, until: until > now)

    def _places(self, thumbprint: str, live: list[Tunnel]) -> list[_Names]:
        """Return the places that are kept, but for names that are open: they count as tunnels."""
        now = self._clock()
        self._keep(thumbprint, lambda _, until: until > now)
        open_names = {name for tunnel in live for name in tunnel.names}
        return [names for names in self._until.get(thumbprint, ()) if names.isdisjoint(open_names)]

    def _keep(self, thumbprint: str, condition: Callable[[_Names, float], bool]) -> None:
        kept = {names: until for names, until in self._until.get(thumbprint, {}).items() if condition(names, until)}
        if kept:
            self._until[thumbprint] = kept
        else:
            self._until.pop(thumbprint, None)


def excess(tunnels: list[Tunnel], limit: int) -> list[Tunnel]:
    """Return those of one key's tunnels that are too many, the newest; none if ``limit`` is 0."""
    if not limit or len(tunnels) <= limit:
        return []
    return sorted(tunnels, key=lambda tunnel: tunnel.opened_at)[limit:]


def reason(held: int, limit: int) -> str:
    """Return why a key may have no further tunnel, on one line."""
    return f"this key has {held} of {limit} tunnels already (tunnels_per_key)"
