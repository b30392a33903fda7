"""The rig: a real server on loopback, real SSH clients, real visitors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from rig import Rig

from tunnel_server.adapters.plugins.hooks import Hooks
from tunnel_server.app.settings import Settings


@pytest.fixture(params=[True, False], ids=["lean", "stock"])
def lean_ssh(request: pytest.FixtureRequest) -> bool:
    """Whether packets take the lean path: every test that uses a server runs over both."""
    return bool(request.param)


@pytest.fixture
def make_rig(tmp_path: Path, lean_ssh: bool) -> Callable[..., object]:
    """Return a context manager that runs a server; keyword arguments are its settings."""

    @asynccontextmanager
    async def make(plugins: Hooks | None = None, **settings: object) -> AsyncIterator[Rig]:
        values = {
            "base_url": "http://tunnels.test:3000",
            "port": 0,
            "ssh_port": 0,
            "metrics_port": 0,
            "tls_port": 0,
            "listen_host": "127.0.0.1",
            "metrics_host": "127.0.0.1",
            "ssh_host_key_path": str(tmp_path / "ssh" / "host_key"),
            "grace_period": 2.0,
            "lean_ssh": lean_ssh,
        }
        async with Rig(Settings(**(values | settings)), tmp_path, plugins) as rig:  # type: ignore[arg-type]
            yield rig

    return make


@pytest.fixture
async def rig(make_rig: Callable[..., object]) -> AsyncIterator[Rig]:
    """A server with default settings on ports of the system's choice."""
    async with make_rig() as running:  # type: ignore[attr-defined]
        yield running
