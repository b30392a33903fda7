"""A real endpoint on loopback, and the plugin that asks it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Self

import pytest
from aiohttp import web

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # so that the tests run without an installation

from tunnel_server_webhook_policy import WebhookPolicy

from tunnel_server import Client, ClientId, ForwardRequest, Request, Thumbprint, Tunnel

SECRET = "a secret of the tests"


def mac(secret: str, text: bytes) -> str:
    """The recipe of the README, written down once more."""
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


class Hook:
    """An endpoint: answers what it is told, checks every signature, and waits at a gate if there is one."""

    def __init__(self) -> None:
        self.answer: Any = {"decision": "none"}
        self.status = 200
        self.headers: dict[str, str] = {}
        self.sign_with = ""
        self.signed_at = 0
        self.gate: asyncio.Event | None = None
        self.raw: bytes | None = None
        self.asked: list[dict[str, Any]] = []
        self.unsigned: list[str] = []
        self.at_once = 0
        self.most_at_once = 0

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/hook", self._serve)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()

    def kinds(self, kind: str) -> list[dict[str, Any]]:
        """What was asked of one kind."""
        return [body for body in self.asked if body["kind"] == kind]

    def events(self) -> list[dict[str, Any]]:
        """All events that were posted."""
        return [event for body in self.kinds("events") for event in body["events"]]

    async def _serve(self, request: web.Request) -> web.Response:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._reply(request)
        finally:
            self.at_once -= 1

    async def _reply(self, request: web.Request) -> web.Response:
        body = await request.read()
        self._check(request.headers.get("X-Tunnel-Signature", ""), body)
        asked = json.loads(body)
        assert asked["id"] == request.headers["X-Tunnel-Id"]
        self.asked.append(asked)
        if self.gate is not None:
            await self.gate.wait()
        answer = json.dumps(self.answer).encode() if self.raw is None else self.raw
        headers = dict(self.headers)
        if self.sign_with:
            at = self.signed_at or int(time.time())
            headers["X-Tunnel-Signature"] = f"t={at},v1=" + mac(
                self.sign_with, b"%d.%s.%s" % (at, asked["id"].encode(), answer)
            )
        return web.Response(status=self.status, body=answer, headers=headers)

    def _check(self, header: str, body: bytes) -> None:
        parts = [part.split("=") for part in header.split(",")]
        at = next((value for key, value in parts if key == "t"), "0")
        wanted = mac(SECRET, at.encode() + b"." + body)
        fresh = abs(time.time() - int(at)) < 30
        if not fresh or not any(hmac.compare_digest(wanted, value) for key, value in parts if key == "v1"):
            self.unsigned.append(header)


class FakeServer:
    """Runs what a plugin has to run beside."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    async with Hook() as running:
        yield running
    assert running.unsigned == []


@pytest.fixture
async def make_plugin(hook: Hook) -> AsyncIterator[Callable[..., Any]]:
    """Return a function that starts the plugin; its arguments are settings, as values."""
    started: list[tuple[WebhookPolicy, FakeServer]] = []

    async def make(**settings: Any) -> WebhookPolicy:
        plugin, server = WebhookPolicy(), FakeServer()
        values = {setting.name: setting.default for setting in plugin.register_settings()}
        ours = {
            "url": hook.url,
            "secrets": (SECRET,),
            "insecure": "loopback",
            "decide": ("client", "tunnel", "request"),
        }
        plugin.configure({**values, **ours, **settings})
        await plugin.startup(server)  # type: ignore[arg-type]
        started.append((plugin, server))
        return plugin

    yield make
    for plugin, server in started:
        await server.stop()
        await plugin.shutdown()


@pytest.fixture
def make_client() -> Callable[..., Client]:
    """Return a function that makes the owner of a key: ``make_client(b"seed")``."""

    def make(seed: bytes = b"a", address: str = "192.0.2.7", user: str = "env") -> Client:
        key = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + seed.ljust(32, b"\0")
        return Client(ClientId.from_public_key(key), Thumbprint.from_public_key(key), user, address, key)

    return make


@pytest.fixture
def make_tunnel(make_client: Callable[..., Client]) -> Callable[..., Tunnel]:
    """Return a function that makes a live tunnel."""

    def make(label: str = "web-abcdefgh", opened_at: float = 5.0, text: str = "/web") -> Tunnel:
        request = ForwardRequest.parse(text)
        return Tunnel(label, request, make_client(), None, opened_at)  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_request() -> Callable[..., Request]:
    """Return a function that makes a visitor's request."""

    def make(path: str = "/", visitor: str = "198.51.100.1", *lines: bytes, method: str = "GET") -> Request:
        return Request(method, path, "web-abcdefgh.tunnels.test", "https", visitor, list(lines))

    return make


@pytest.fixture
def count() -> Callable[..., float]:
    """Return a function that reads one of a plugin's metrics."""

    def read(plugin: WebhookPolicy, name: str, **labels: str) -> float:
        samples = [
            sample.value
            for collector in plugin.register_metrics()
            for family in collector.collect()
            for sample in family.samples
            if sample.name == "tunnel_server_webhook_policy_" + name and labels.items() <= sample.labels.items()
        ]
        return float(sum(samples))

    return read
