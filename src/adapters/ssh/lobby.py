"""Who is connected, and who of them has not logged in yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from tunnel_server.adapters.ssh.owner import Owner

log = structlog.get_logger()


class Lobby:
    """Bounds the strangers: when there are too many, the busiest address loses its oldest.

    So a flood from one address displaces itself, and a client from elsewhere still gets in.
    """

    def __init__(self, max_strangers: int) -> None:
        self._max_strangers = max_strangers
        self._strangers: dict[str, dict[Owner, None]] = {}
        self._count = 0
        self.owners: set[Owner] = set()

    def arrived(self, owner: Owner) -> None:
        """Count a new stranger in, at another's cost if need be."""
        if self._count >= self._max_strangers:
            busiest = max(self._strangers, key=lambda address: len(self._strangers[address]))
            oldest = next(iter(self._strangers[busiest]))
            log.warning("client.dropped", reason="too many logins at once", address=oldest.connection.peer_address)
            self.admitted(oldest)
            oldest.connection.abort()
        self.owners.add(owner)
        self._strangers.setdefault(owner.connection.peer_address, {})[owner] = None
        self._count += 1

    def admitted(self, owner: Owner) -> None:
        """A stranger is one no more. Safe to repeat."""
        address = owner.connection.peer_address
        waiting = self._strangers.get(address)
        if waiting is not None and owner in waiting:
            del waiting[owner]
            self._count -= 1
            if not waiting:
                del self._strangers[address]

    def left(self, owner: Owner) -> None:
        """A connection ended, logged in or not."""
        self.admitted(owner)
        self.owners.discard(owner)
