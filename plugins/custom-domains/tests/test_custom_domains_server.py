"""A real server, real SSH clients, a real name server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from tunnel_server_custom_domains import CustomDomains
from tunnel_server_custom_domains.fingerprints import fingerprint

from tunnel_server.testing import App, Refused, run_server


def settings(zone: Any, **ours: object) -> dict[str, object]:
    usual = {"name_servers": f"127.0.0.1:{zone.port}", "recheck_interval": "1s", "cache_absent": "0", **ours}
    return {f"custom_domains_{name}": value for name, value in usual.items()}


def key_and_value() -> tuple[asyncssh.SSHKey, str]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    return key, f"tunnel-server={fingerprint(key.public_data)}"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_proved_domain_is_served_and_told_to_its_client(zone: Any) -> None:
    key, value = key_and_value()
    zone.put("_tunnel.app.example.com", value)

    async with run_server([CustomDomains], settings=settings(zone)) as server:
        async with server.tunnel(name="/app.example.com", key=key) as tunnel:
            answer = await server.get("app.example.com", "/a")
            hello = json.loads((await tunnel.client.run("tunnel-url /app.example.com")).stdout or "")

        assert tunnel.host == "app.example.com"
        assert (answer.status, answer.json()["path"]) == (200, "/a")
        assert hello == {"/app.example.com": "http://app.example.com/"}
        assert (await server.get("app.example.com")).status != 200


async def test_a_wildcard_serves_every_label_below_it(zone: Any) -> None:
    key, value = key_and_value()
    zone.put("_tunnel.preview.example.com", value)

    async with run_server([CustomDomains], settings=settings(zone)) as server:
        async with server.tunnel(name="/*.preview.example.com", key=key):
            assert (await server.get("a.preview.example.com")).status == 200
            assert (await server.get("B.preview.example.com")).status == 200
            assert "ssh -p" in (await server.get("preview.example.com")).text  # the server's own page
            assert "ssh -p" in (await server.get("a.b.preview.example.com")).text


async def test_openssh_shows_which_record_to_create(zone: Any, tmp_path: Path) -> None:
    key, value = key_and_value()
    file = tmp_path / "key"
    key.write_private_key(file)
    file.chmod(0o600)

    async with run_server([CustomDomains], settings=settings(zone)) as server, App() as app:
        process = await asyncio.create_subprocess_exec(
            "ssh", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-i", file,
            "-p", str(server.ssh_port),
            "-R", f"/app.example.com:localhost:{app.port}", "env@127.0.0.1", "hello",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(20):
            _, shown = await process.communicate()

    assert (
        f'create the TXT record _tunnel.app.example.com with the value "{value}", '
        "and point app.example.com at tunnels.test by a CNAME record"
    ) in shown.decode()


async def test_another_key_does_not_get_the_domain(zone: Any) -> None:
    _, value = key_and_value()
    zone.put("_tunnel.app.example.com", value)

    async with run_server([CustomDomains], settings=settings(zone)) as server:
        with pytest.raises(Refused):
            async with server.tunnel(name="/app.example.com"):
                pass

        assert server.metric("tunnel_server_custom_domains_names_total", outcome="not_proved") == 1


async def test_other_names_stay_labels(zone: Any) -> None:
    async with run_server([CustomDomains], settings=settings(zone)) as server:
        async with server.tunnel(name="/web.v2") as tunnel:
            assert tunnel.host.endswith(".tunnels.test")
            assert (await tunnel.get()).status == 200


async def test_a_record_that_vanishes_ends_the_tunnel_and_leaves_others(zone: Any) -> None:
    key, value = key_and_value()
    zone.put("_tunnel.app.example.com", value)
    zone.put("_tunnel.other.example.com", value)

    async with run_server([CustomDomains], settings=settings(zone, recheck_failures=2)) as server:
        async with server.tunnel(name="/app.example.com", key=key), server.tunnel(name="/other.example.com", key=key):
            del zone.texts["_tunnel.app.example.com"]
            zone.rcodes["_tunnel.other.example.com"] = 2  # SERVFAIL

            await until(lambda: server.server.find("app.example.com") is None)

            assert (await server.get("other.example.com")).status == 200
        assert server.metric("tunnel_server_custom_domains_closed_total") == 1
        assert any(event["event"] == "custom-domains.closed" for event in server.log)


async def test_a_client_on_silent_name_servers_keeps_nobody_waiting(zone: Any) -> None:
    key, value = key_and_value()
    zone.put("_tunnel.app.example.com", value)
    zone.silent.update(f"_tunnel.slow{number}.example.com" for number in range(3))

    async with run_server([CustomDomains], settings=settings(zone, lookup_timeout="60s")) as server:
        async with server.ssh() as greedy:
            slow = [
                asyncio.ensure_future(greedy.forward_remote_path_to_port(f"/slow{number}.example.com", "127.0.0.1", 1))
                for number in range(20)
            ]
            await until(lambda: any(name.startswith("_tunnel.slow") for name in zone.asked))

            async with server.tunnel(name="/app.example.com", key=key) as tunnel:
                assert (await tunnel.get()).status == 200
                assert not slow[-1].done()

            for one in slow:
                one.cancel()
            await asyncio.gather(*slow, return_exceptions=True)


async def test_the_map_file_is_applied_to_live_tunnels(zone: Any, tmp_path: Path) -> None:
    key, value = key_and_value()
    path = tmp_path / "domains"
    path.write_text(f"app.example.com {value.partition('=')[2]}\n")

    async with run_server([CustomDomains], settings=settings(zone, map_file=path, dns=False)) as server:
        async with server.tunnel(name="/app.example.com", key=key) as tunnel:
            assert (await tunnel.get()).status == 200
            path.write_text("# nobody any more\n")

            await until(lambda: server.server.find("app.example.com") is None)


async def test_a_map_file_that_is_wrong_stops_the_start(zone: Any, tmp_path: Path) -> None:
    path = tmp_path / "domains"
    path.write_text("app.example.com\n")

    with pytest.raises(Exception, match="line 1"):
        async with run_server([CustomDomains], settings=settings(zone, map_file=path)):
            pass
