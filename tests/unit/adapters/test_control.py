from __future__ import annotations

import asyncio

from tunnel_server.adapters.checkup.web import Answer, Question, ask
from tunnel_server.adapters.control.plane import INSTANCE, ControlPlane
from tunnel_server.domain.naming import BaseUrl
from tunnel_server.domain.routing import Surface


async def answered(ready: bool, *paths: str) -> list[Answer]:
    """Return what one control plane answers."""
    async with ControlPlane(BaseUrl.parse("http://tunnels.test"), lambda: ready, "ssh …") as plane:
        server = await asyncio.get_running_loop().create_server(lambda: plane.protocol(Surface.ROOT), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return [await ask("127.0.0.1", port, Question("tunnels.test", 80, path), 5) for path in paths]


async def test_health_and_readiness_tell_which_start_of_which_server_answers() -> None:
    healthy, ready, again = await answered(True, "/healthz", "/readyz", "/healthz")
    [other] = await answered(True, "/healthz")
    mine, yours = healthy.fields[INSTANCE.lower()], other.fields[INSTANCE.lower()]

    assert (healthy.status, healthy.body) == (200, b"OK")
    assert (ready.status, ready.body) == (200, b"ready")
    assert ready.fields[INSTANCE.lower()] == again.fields[INSTANCE.lower()] == mine
    assert len(mine) == 16 and mine != yours


async def test_one_that_stops_says_so_and_who_it_is() -> None:
    [answer] = await answered(False, "/readyz")

    assert (answer.status, answer.body) == (503, b"stopping")
    assert answer.fields[INSTANCE.lower()]


async def test_other_pages_do_not_tell() -> None:
    [root] = await answered(True, "/")

    assert INSTANCE.lower() not in root.fields
