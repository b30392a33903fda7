"""Who is connected, and who of them has not logged in yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from tunnel_server.domain.crowd import Crowd
from tunnel_server.domain.share import one_visitor

if TYPE_CHECKING:
    from tunnel_server.adapters.ssh.owner import Owner

log = structlog.get_logger()


class Lobby:
    """Every connection's owner; those who have not logged in are bounded, see :class:`Crowd`."""

    def __init__(self, max_strangers: int) -> None:
        self._strangers: Crowd[Owner] = Crowd(max_strangers)
        self.owners: set[Owner] = set()

    def arrived(self, owner: Owner) -> None:
        """Count a new stranger in, at another's cost if need be."""
        self.owners.add(owner)
        displaced = self._strangers.add(owner, one_visitor(owner.connection.peer_address))
        if displaced is not None:
            address = displaced.connection.peer_address
            log.warning("client.dropped", reason="too many logins at once", address=address)
            displaced.connection.abort()

    def admitted(self, owner: Owner) -> None:
        """A stranger is one no more. Safe to repeat."""
        self._strangers.remove(owner)

    def left(self, owner: Owner) -> None:
        """A connection ended, logged in or not."""
        self.admitted(owner)
        self.owners.discard(owner)
