"""The code and its tests."""

INIT = '''\
"""A plugin for tunnel-server: only tunnels with allowed names."""

from $package.plugin import Plugin

__all__ = ["Plugin"]
'''

PLUGIN = '''\
"""Lets clients have only tunnels whose names are allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from tunnel_server import ForwardRequest, Reject, Setting, hookimpl


def patterns(text: str) -> tuple[str, ...]:
    """Read the setting; a ValueError is shown to whoever starts the server."""
    found = tuple(text.replace(",", " ").split())
    if not found:
        raise ValueError("allows no name at all")
    return found


class Plugin:
    """The server makes one when it starts."""

    def __init__(self) -> None:
        self._allowed: tuple[str, ...] = ("*",)

    @hookimpl
    def register_settings(self) -> Sequence[Setting]:
        """Declare TUNNEL_SERVER_${setting}_ALLOWED."""
        return [
            Setting(
                name="allowed",
                help="Names that tunnels may have; * and ? stand for any characters.",
                default=("*",),
                read=patterns,
                example="web, api-*",
            )
        ]

    @hookimpl
    def configure(self, settings: Mapping[str, Any]) -> None:
        """Take the settings, read and checked."""
        self._allowed = settings["allowed"]

    @hookimpl
    def authorize_tunnel(self, request: ForwardRequest) -> Reject | None:
        """Reject a tunnel whose name is not allowed; about all others this plugin has no opinion."""
        if any(fnmatchcase(request.name, pattern) for pattern in self._allowed):
            return None
        return Reject(f"the name {request.name!r} is not allowed here; allowed: {', '.join(self._allowed)}")
'''

CONFTEST = '''\
"""Gives the tests the fixture ``tunnel_server``, which runs a real server in this process."""

pytest_plugins = ["tunnel_server.testing"]
'''

TESTS = '''\
"""The plugin in a real server, with a real SSH client and a real visitor."""

import pytest

from tunnel_server.testing import Refused

SETTINGS = {"${lower}_allowed": "web, api-*"}


@pytest.mark.parametrize("name", ["/web", "/api-1"])
async def test_a_tunnel_with_an_allowed_name_is_served(tunnel_server, name):
    async with tunnel_server(plugins=["$name"], settings=SETTINGS) as server:
        async with server.tunnel(name=name) as tunnel:
            answer = await tunnel.get("/hello")

    assert answer.status == 200
    assert answer.json()["path"] == "/hello"


async def test_a_tunnel_with_another_name_is_refused_and_its_client_told_why(tunnel_server):
    async with tunnel_server(plugins=["$name"], settings=SETTINGS) as server:
        with pytest.raises(Refused, match="the name 'shop' is not allowed here"):
            async with server.tunnel(name="/shop"):
                pass


async def test_without_the_setting_every_name_is_allowed(tunnel_server):
    async with tunnel_server(plugins=["$name"]) as server:
        async with server.tunnel(name="/shop") as tunnel:
            assert (await tunnel.get()).status == 200
'''
