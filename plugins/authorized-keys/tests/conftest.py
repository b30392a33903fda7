"""What the tests of this plugin share: keys, lines, clients, and a server to judge them on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncssh
import pytest

if find_spec("tunnel_server_authorized_keys") is None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from tunnel_server import BaseUrl, Client, ClientId, Server, Thumbprint, Tunnel


class Person:
    """Somebody with a key."""

    def __init__(self, kind: str = "ssh-ed25519", **options: Any) -> None:
        self.private = asyncssh.generate_private_key(kind, **options)
        self.blob: bytes = self.private.public_data
        self.public = self.private.export_public_key().decode().strip()

    def line(self, options: str = "", comment: str = "") -> str:
        return f"{options} {self.public} {comment}".strip()

    def client(self, address: str = "192.0.2.7", **attributes: str) -> Client:
        return Client(
            ClientId.from_public_key(self.blob),
            Thumbprint.from_public_key(self.blob),
            "env",
            address,
            self.blob,
            {key.replace("__", ".").replace("_", "-"): value for key, value in attributes.items()},
        )


class FakeServer(Server):
    """Holds who is connected; what a plugin ends is gone from it."""

    def __init__(self) -> None:
        self.live: list[Client] = []
        self.open: list[Tunnel] = []
        self.said: list[str] = []
        self.asked = 0  # times that somebody asked for the clients
        self.work: list[Coroutine[Any, Any, None]] = []

    @property
    def base(self) -> BaseUrl:
        return BaseUrl.parse("http://tunnels.test")

    def clients(self) -> list[Client]:
        self.asked += 1
        return list(self.live)

    def tunnels(self) -> list[Tunnel]:
        return list(self.open)

    def find(self, name: str) -> Tunnel | None:
        return next((tunnel for tunnel in self.open if name in tunnel.names), None)

    def of_profile(self, thumbprint: str) -> list[Tunnel]:
        return [tunnel for tunnel in self.open if str(tunnel.client.thumbprint) == thumbprint]

    def disconnect(self, client: Client, reason: str) -> None:
        self.live = [other for other in self.live if other is not client]
        self.open = [tunnel for tunnel in self.open if tunnel.client is not client]
        self.said.append(reason)

    def close(self, tunnel: Tunnel, reason: str) -> None:
        self.open = [other for other in self.open if other is not tunnel]
        self.said.append(reason)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.work.append(work)


@pytest.fixture
def new_person() -> Callable[..., Person]:
    """Return the class of people; each call makes one with a new key."""
    return Person


@pytest.fixture
def fake_server() -> FakeServer:
    """A server that nobody is connected to yet."""
    return FakeServer()
