"""The plugin, tested as it lies here, and a server that it can run in."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from pebble import free_port

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # so that the tests run without an installation

from tunnel_server_dns_challenge import NameServer
from tunnel_server_dns_challenge.zones import Zones

from tunnel_server import BaseUrl

ZONE = "_acme-challenge.tunnels.example.com"


class FakeServer:
    """The server as the plugin sees it: runs what is spawned."""

    def __init__(self, base_url: str) -> None:
        self.base = BaseUrl.parse(base_url)
        self.tasks: list[asyncio.Task[None]] = []

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        for task in self.tasks:
            with pytest.raises(asyncio.CancelledError):  # and not what ended it before
                await task


class Running:
    """A started plugin; ``port`` is its own."""

    def __init__(self, plugin: NameServer, port: int) -> None:
        self.plugin = plugin
        self.port = port

    @property
    def dns(self) -> Any:
        return self.plugin.dns_challenge()

    def counted(self, transport: str, outcome: str) -> float:
        [collector] = self.plugin.register_metrics()
        return float(collector.labels(transport, outcome)._value.get())


@pytest.fixture
def zones() -> Zones:
    return Zones([ZONE], "tunnels.example.com")


@pytest.fixture
async def make_plugin() -> AsyncIterator[Callable[..., Any]]:
    """Return a function that starts the plugin; its arguments are settings, as values."""
    started: list[tuple[NameServer, FakeServer]] = []

    async def make(base_url: str = "https://tunnels.example.com", **settings: Any) -> Running:
        plugin, server = NameServer(), FakeServer(base_url)
        values = {setting.name: setting.default for setting in plugin.register_settings()}
        values |= {"listen_host": "127.0.0.1", "port": free_port(), **settings}
        plugin.configure(values)
        started.append((plugin, server))
        await plugin.startup(server)  # type: ignore[arg-type]
        return Running(plugin, values["port"])

    yield make
    for plugin, server in started:
        await server.stop()
        await plugin.shutdown()
