"""The plugin in a real server: real logins, and a forge on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tunnel_server_github_keys import GitHubKeys

from tunnel_server.testing import Refused, run_server

NewPerson = Callable[..., Any]
LIMIT = 20.0  # seconds


@pytest.fixture
def server(tmp_path: Path, forge: Any) -> Callable[..., Any]:
    """Return what runs a server with a plugin that asks the local forge."""

    def run(plugin: GitHubKeys, **settings: object) -> Any:
        urls = {"url": forge.url, "api_url": forge.url, "gitlab_url": forge.url, "cache": tmp_path / "cache.json"}
        named = {f"github_keys_{name}": value for name, value in (urls | settings).items()}
        return run_server([plugin], settings=named, folder=tmp_path / "server")

    return run


async def test_a_member_publishes_a_stranger_is_told_why_and_who_leaves_is_hung_up_on(
    server: Any, forge: Any, new_person: NewPerson
) -> None:
    ada, bob, eve = new_person(), new_person(), new_person()
    forge.keys = {"ada": [ada.public], "bob": [bob.public]}
    forge.groups = {"/orgs/acme/members": [[{"login": "ada"}, {"login": "bob"}]]}
    plugin = GitHubKeys()

    async with (
        server(plugin, organisations="acme", recheck="0") as running,
        running.tunnel(name="/ada", key=ada.private) as of_ada,
        running.tunnel(name="/bob", key=bob.private) as of_bob,
    ):
        assert (await of_ada.get()).status == 200
        assert of_ada.tunnel.client.attributes["github-keys.user"] == "ada"
        with pytest.raises(Refused, match="not one of those"):
            async with running.ssh(eve.private):
                pass

        forge.groups = {"/orgs/acme/members": [[{"login": "bob"}]]}
        plugin._rounds._wake.set()
        async with asyncio.timeout(LIMIT):
            await of_ada.client.wait_closed()

        assert (await of_bob.get()).status == 200
        assert running.metric("tunnel_server_github_keys_ended_total") == 1


async def test_a_server_starts_and_admits_during_an_outage(server: Any, forge: Any, new_person: NewPerson) -> None:
    ada = new_person()
    forge.keys = {"ada": [ada.public]}
    async with server(GitHubKeys(), gitlab_users="ada"):
        pass
    await forge.go_down()

    async with server(GitHubKeys(), gitlab_users="ada") as running, running.tunnel(key=ada.private) as published:
        assert (await published.get()).status == 200


async def test_a_stranger_waits_less_than_a_hook_may_take(server: Any, forge: Any, new_person: NewPerson) -> None:
    ada = new_person()
    forge.keys = {"ada": [ada.public]}
    plugin = GitHubKeys()

    async def hang(_: Any) -> None:
        await asyncio.Event().wait()

    async with server(plugin, users="ada") as running:
        forge.behave = hang
        plugin._rounds._wake.set()
        async with asyncio.timeout(LIMIT):
            with pytest.raises(Refused, match="try again in a moment"):
                async with running.ssh(new_person().private):
                    pass
            async with running.ssh(ada.private):
                pass
        assert not running.metric("tunnel_server_plugin_failures_total")
