"""Whether a visitor may pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunnel_server.domain.tunnel import Access

if TYPE_CHECKING:
    from tunnel_server.domain.tunnel import Tunnel


@dataclass(frozen=True, slots=True)
class Allow:
    """The request goes on to the tunnel."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request ends here, with an HTTP ``status`` and a ``reason`` fit for the visitor."""

    status: int
    reason: str


ALLOW = Allow()
_PUBLIC = Access.PUBLIC  # by name of its own: asked at every request
PRIVATE = Refuse(403, "This tunnel is private, and this server has no sign-in yet.")


def decide(tunnel: Tunnel) -> Allow | Refuse:
    """Return whether a visitor may reach ``tunnel``: nobody a private one, until there is sign-in."""
    return ALLOW if tunnel.request.access is _PUBLIC else PRIVATE
