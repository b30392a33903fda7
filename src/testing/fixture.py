"""The pytest fixture."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tunnel_server.testing.server import RunningServer, run_server


@pytest.fixture
def tunnel_server(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[RunningServer]]:
    """Return :func:`run_server`; several may run at once. Files that a server keeps are in the test's own folder."""

    def run(plugins: object = (), **options: object) -> AbstractAsyncContextManager[RunningServer]:
        return run_server(plugins, folder=tmp_path / "tunnel-server", **options)  # type: ignore[arg-type]

    return run
