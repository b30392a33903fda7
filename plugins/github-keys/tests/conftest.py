"""What the tests of this plugin share: people with keys, a server to log in to, and a forge that can misbehave."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from aiohttp import web

if find_spec("tunnel_server_github_keys") is None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from tunnel_server import BaseUrl, Client, ClientId, Server, Thumbprint, Tunnel


class Person:
    """Somebody with a key."""

    def __init__(self, kind: str = "ssh-ed25519") -> None:
        self.private = asyncssh.generate_private_key(kind)
        self.blob: bytes = self.private.public_data
        self.public = self.private.export_public_key().decode().strip()

    def client(self, **attributes: str) -> Client:
        noted = {f"github-keys.{key}": value for key, value in attributes.items()}
        return Client(
            ClientId.from_public_key(self.blob),
            Thumbprint.from_public_key(self.blob),
            "env",
            "192.0.2.7",
            self.blob,
            noted,
        )


class FakeServer(Server):
    """Holds who is connected and runs what is spawned; who is disconnected is gone from it."""

    def __init__(self) -> None:
        self.live: list[Client] = []
        self.said: list[str] = []
        self.asked = 0  # times that somebody asked for the clients
        self.tasks: list[asyncio.Task[None]] = []

    @property
    def base(self) -> BaseUrl:
        return BaseUrl.parse("http://tunnels.test")

    def clients(self) -> list[Client]:
        self.asked += 1
        return list(self.live)

    def tunnels(self) -> list[Tunnel]:
        return []

    def find(self, name: str) -> Tunnel | None:
        return None

    def of_profile(self, thumbprint: str) -> list[Tunnel]:
        return []

    def disconnect(self, client: Client, reason: str) -> None:
        self.live = [other for other in self.live if other is not client]
        self.said.append(reason)

    def close(self, tunnel: Tunnel, reason: str) -> None:
        raise NotImplementedError

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)


class Forge:
    """A local server that answers as GitHub and GitLab do, or as a test tells it to.

    ``keys`` and ``groups`` are what it knows; ``groups`` has pages by path. ``behave`` answers instead of it, if set.
    """

    def __init__(self) -> None:
        self.keys: dict[str, list[str]] = {}
        self.groups: dict[str, list[list[dict[str, str]]]] = {}
        self.asked: list[web.Request] = []
        self.answers: list[int] = []
        self.behave: Callable[[web.Request], Any] | None = None

    async def __aenter__(self) -> Forge:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await self._site.start()
        self.port: int = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()

    async def go_down(self) -> None:
        """Refuse connections from now on."""
        await self._site.stop()
        for connection in list(self._runner.server.connections):  # type: ignore[union-attr]
            if connection.transport is not None:
                connection.transport.abort()

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.asked]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        response = self.behave(request) if self.behave is not None else None
        if asyncio.iscoroutine(response):
            response = await response
        answer: web.StreamResponse = response or self._answer(request)
        self.answers.append(answer.status)
        return answer

    def _answer(self, request: web.Request) -> web.Response:
        name = request.path.removeprefix("/").removesuffix(".keys")
        if request.path.endswith(".keys") and name in self.keys:
            return _tagged(request, web.Response(text="".join(f"{key}\n" for key in self.keys[name])))
        if request.path in self.groups:
            pages, number = self.groups[request.path], int(request.query["page"])
            page = pages[number - 1] if number <= len(pages) else []
            response = _tagged(request, web.json_response(page))
            if number < len(pages):
                response.headers["Link"] = f'<https://elsewhere.invalid{request.path}?page={number + 1}>; rel="next"'
            return response
        return web.Response(status=404)


def _tagged(request: web.Request, response: web.Response) -> web.Response:
    etag = f'W/"{hash((request.path_qs, response.text)):x}"'
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=304)
    response.headers["ETag"] = etag
    return response


@pytest.fixture
def new_person() -> Callable[..., Person]:
    """Return the class of people; each call makes one with a new key."""
    return Person


@pytest.fixture
async def fake_server() -> AsyncIterator[FakeServer]:
    """A server that nobody is connected to yet."""
    server = FakeServer()
    yield server
    await server.stop()


@pytest.fixture
async def forge() -> AsyncIterator[Forge]:
    """A forge without users."""
    async with Forge() as running:
        yield running
