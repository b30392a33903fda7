"""Quotas beside the rest of a server: private tunnels, WebSockets, OpenSSH, files that change."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import aiohttp
import asyncssh
import pytest
from aiohttp import web
from tunnel_server_quotas import Quotas, upkeep

from tunnel_server.testing import App, run_server, until


async def test_who_may_not_see_a_private_tunnel_does_not_use_up_its_requests(tmp_path: Path) -> None:
    settings = {"quotas_requests_per_second_per_key": "1/h", "quotas_bytes_per_day": 10_000}
    async with (
        run_server([Quotas()], settings=settings, folder=tmp_path) as server,
        server.tunnel(name="/web#access=private") as tunnel,
    ):
        statuses = {(await tunnel.get("/" + "x" * 1000)).status for _ in range(30)}

        assert statuses.isdisjoint({200, 429, 503})
        assert server.metric("tunnel_server_quotas_running_requests") == 0


async def test_a_websocket_holds_its_slot_and_its_bytes_count_at_its_end(tmp_path: Path) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        if request.path != "/socket":
            return web.Response()
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    settings = {"quotas_concurrent_requests_per_key": 1, "quotas_bytes_per_day": 10_000}
    async with (
        run_server([Quotas()], settings=settings, folder=tmp_path) as server,
        server.tunnel(echo) as tunnel,
        aiohttp.ClientSession() as session,
    ):
        url = f"http://127.0.0.1:{server.http_port}/socket"
        async with session.ws_connect(url, headers={"Host": tunnel.host}) as socket:
            for _ in range(10):
                await socket.send_str("x" * 1000)
                await socket.receive_str(timeout=10)
            assert (await tunnel.get()).status == 503

        await until(lambda: server.metric("tunnel_server_quotas_running_requests") == 0)
        assert (await tunnel.get()).status == 429


async def test_a_limit_that_is_lowered_holds_for_tunnels_that_are_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "EVERY", 0.01)
    file = tmp_path / "quotas.toml"
    file.write_text("")
    key = asyncssh.generate_private_key("ssh-ed25519")
    settings = {"quotas_exceptions_file": file}
    async with (
        run_server([Quotas()], settings=settings, folder=tmp_path) as server,
        server.tunnel(name="/first", key=key) as first,
        server.tunnel(name="/second", key=key) as second,
        server.tunnel(name="/other") as other,
    ):
        new = tmp_path / "new"
        new.write_text(f'["{key.get_fingerprint()}"]\ntunnels_per_key = 1\n')
        new.replace(file)

        await until(lambda: second.tunnel not in server.server.tunnels())
        assert set(server.server.tunnels()) == {first.tunnel, other.tunnel}
        assert (await first.get()).status == 200
        assert server.metric("tunnel_server_quotas_closed_tunnels_total") == 1


async def test_the_exceptions_of_a_key_are_found_by_the_fingerprint_that_ssh_keygen_prints(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    file = tmp_path / "quotas.toml"
    file.write_text(f'["{key.get_fingerprint()}"]\nrequests_per_second_per_key = 0\n')
    settings = {"quotas_exceptions_file": file, "quotas_requests_per_second_per_key": "1/h"}
    async with (
        run_server([Quotas()], settings=settings, folder=tmp_path) as server,
        server.tunnel(key=key) as favoured,
        server.tunnel() as usual,
    ):
        assert [(await favoured.get()).status for _ in range(3)] == [200] * 3
        assert [(await usual.get()).status for _ in range(2)] == [200, 429]


async def test_openssh_shows_which_limit_refused_its_tunnel(tmp_path: Path) -> None:
    ssh = shutil.which("ssh")
    if ssh is None:
        if os.environ.get("CI") == "true":
            pytest.fail("ssh is not installed")
        pytest.skip("ssh is not installed")
    key = tmp_path / "id"
    key.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    key.chmod(0o600)
    settings = {"quotas_tunnels_per_key": 1}
    async with run_server([Quotas()], settings=settings, folder=tmp_path) as server, App() as app:
        forwards = [f"-R/{name}:127.0.0.1:{app.port}" for name in ("one", "two")]
        process = await asyncio.create_subprocess_exec(
            *(ssh, "-F", "none", "-i", str(key), "-p", str(server.ssh_port), "-o", "StrictHostKeyChecking=no"),
            *("-o", "UserKnownHostsFile=/dev/null", "-o", "IdentityAgent=none", "-o", "LogLevel=ERROR"),
            *forwards,
            *("env@127.0.0.1", "hello"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout is not None and process.stderr is not None
            async with asyncio.timeout(20):
                hello = json.loads(await process.stdout.readline())
                said = b""
                while b"tunnels_per_key" not in said:
                    said = await process.stderr.readline()
                    assert said, "it said nothing of the limit"

            assert list(hello["tunnels"]) == ["/one"]
        finally:
            process.kill()
            await process.communicate()
