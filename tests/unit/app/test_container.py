from __future__ import annotations

import asyncio
from pathlib import Path

from tunnel_server.app.container import Container
from tunnel_server.app.settings import Settings


async def test_the_container_builds_everything(tmp_path: Path) -> None:
    settings = Settings(
        base_url="http://tunnels.test",
        dev_tls_folder=str(tmp_path),
        acme="https://ca.test/directory",
        acme_hosts=("tunnels.test",),
        acme_private_ca=True,
    )
    container = Container(settings=settings)

    for name, provider in container.providers.items():
        assert name == "add_collectors" or provider() is not None, name
    assert len(asyncio.all_tasks()) == 1  # nothing was started
