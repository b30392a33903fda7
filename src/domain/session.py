"""What the server answers to the words a client may execute over SSH."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tunnel_server.domain.errors import UnknownCommand

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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


def tunnel_urls(urls: Mapping[str, str]) -> str:
    """Return the compact JSON that ``tunnel-url NAME…`` prints: each name as given, and its URL."""
    return _compact(urls)


def words(command: str, others: Iterable[str] = ()) -> list[str]:
    """Split an exec command into words; the first is one the server knows, or one of ``others``.

    Raises:
        UnknownCommand: it is not.
    """
    split = command.split()
    known = (HELLO, TUNNEL_URL, *others)
    if not split or split[0] not in known or (split[0] == HELLO and len(split) > 1):
        more = "".join(f", {word}" for word in others)
        raise UnknownCommand(f"unknown command {command[:80]!r}; this server knows: hello, tunnel-url NAME...{more}")
    return split


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
