"""What the server answers to the words a client may execute over SSH."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tunnel_server.domain.errors import UnknownCommand
from tunnel_server.domain.naming import host_label

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tunnel_server.domain.identity import ClientId
    from tunnel_server.domain.naming import BaseUrl
    from tunnel_server.domain.tunnel import Tunnel

HELLO = "hello"
TUNNEL_URL = "tunnel-url"


def hello(client: ClientId, tunnels: Iterable[Tunnel], base: BaseUrl) -> str:
    """Return the compact JSON that ``hello`` prints, without an end of line."""
    return _compact(
        {
            "clientId": str(client),
            "tunnels": {tunnel.request.text: base.tunnel_url(tunnel.label) for tunnel in tunnels},
            "baseUrl": base.describe(),
            "rootUrl": base.root_url,
        }
    )


def tunnel_urls(names: Iterable[str], client: ClientId, base: BaseUrl) -> str:
    """Return the compact JSON that ``tunnel-url NAME…`` prints: each name as given, and its URL.

    Like in a forward request one leading ``/`` is no part of the name; anything else is, ``#`` too.

    Raises:
        InvalidTunnelName: one of the names is empty.
    """
    return _compact({name: base.tunnel_url(host_label(name.removeprefix("/"), client)) for name in names})


def words(command: str) -> list[str]:
    """Split an exec command into words; the first is one the server knows.

    Raises:
        UnknownCommand: it is not.
    """
    split = command.split()
    if not split or split[0] not in (HELLO, TUNNEL_URL) or (split[0] == HELLO and len(split) > 1):
        raise UnknownCommand(f"unknown command {command[:80]!r}; this server knows: hello, tunnel-url NAME...")
    return split


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
