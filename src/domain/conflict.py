"""What a newcomer is told when a name stays with its holder."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunnel_server.domain.tunnel import Client, Tunnel


def refusal(newcomer: Client, holder: Tunnel) -> str:
    """Return why ``newcomer`` does not get the label of ``holder``.

    Since when and from where is told to the holder's own key only, compared whole.
    """
    if newcomer.thumbprint != holder.client.thumbprint:
        return f"the name {holder.label!r} is in use by somebody else"
    since = datetime.fromtimestamp(holder.opened_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return (
        f"your other connection from {holder.client.address} has held {holder.label!r} since {since}; "
        "close it, or choose another name"
    )
