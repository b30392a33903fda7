"""What events tell: the JSON of each."""

from __future__ import annotations

from typing import Any

from tunnel_server import FinishedRequest, Tunnel
from tunnel_server_webhook_policy.questions import tunnel_json

MAX_PATH = 2048  # characters


def of_tunnel(tunnel: Tunnel) -> dict[str, Any]:
    """Return what is told of a tunnel that was opened or closed."""
    return {"tunnel": tunnel_json(tunnel)}


def of_request(finished: FinishedRequest) -> dict[str, Any]:
    """Return what is told of a request that ended; not its query, which may hold secrets."""
    tunnel = finished.tunnel
    return {
        "tunnel": None if tunnel is None else _short(tunnel),
        "request": {
            "visitor": finished.visitor,
            "method": finished.method,
            "host": finished.host,
            "path": finished.path.partition("?")[0][:MAX_PATH],
            "status": finished.status,
            "outcome": finished.outcome,
            "seconds": round(finished.seconds, 6),
            "bytesIn": finished.bytes_in,
            "bytesOut": finished.bytes_out,
        },
    }


def _short(tunnel: Tunnel) -> dict[str, Any]:
    client = tunnel.client
    return {
        "names": list(tunnel.names),
        "openedAt": tunnel.opened_at,
        "client": {"id": str(client.id), "thumbprint": str(client.thumbprint), "user": client.user},
    }
