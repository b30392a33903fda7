"""Private tunnels: who visits one has to be signed in, with a token of its owner's key or of a login service."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from tunnel_server import Access, RequestPolicy, Route, Server, Setting, Tunnel, hookimpl
from tunnel_server.house.private_tunnels.answers import preflight
from tunnel_server.house.private_tunnels.gate import Gate
from tunnel_server.house.private_tunnels.guard import Guard
from tunnel_server.house.private_tunnels.login import LoginPage
from tunnel_server.house.private_tunnels.options import Options, declared
from tunnel_server.house.private_tunnels.places import Places
from tunnel_server.house.private_tunnels.profiles import ProfileApi
from tunnel_server.house.private_tunnels.sessions import Clock, Sessions, Signed, Tickets

PROFILE_TUNNELS = "/profiles/{thumbprint}/tunnels"


class PrivateTunnels:
    """The plugin. Tunnels that are not private cost nothing."""

    _options: Options
    _server: Server

    def __init__(self, clock: Clock = time.time) -> None:
        self._clock = clock

    @hookimpl
    def register_settings(self) -> Sequence[Setting]:
        """Declare the settings of cookies and of the login service."""
        return declared()

    @hookimpl
    def configure(self, settings: Mapping[str, Any]) -> None:
        """Take the settings; a key that is not among them may be in a file."""
        self._options = Options.of(settings)
        self._gate = Gate(self._options.service, self._clock)
        self._signed = Signed(Sessions(self._options.secrets, self._clock), Tickets(self._options.secrets, self._clock))

    @hookimpl
    def startup(self, server: Server) -> None:
        """Learn the base URL, and whom to ask for tunnels."""
        self._server = server
        self._places = Places(server.base, per_host=self._options.per_host, clock=self._clock)
        self._login = LoginPage(server, self._places, self._gate, self._signed, self._options.service)
        self._profiles = ProfileApi(server, self._gate, self._options.service)

    @hookimpl
    def guard_tunnel(self, tunnel: Tunnel) -> RequestPolicy | None:
        """Guard the tunnel if it is private."""
        if tunnel.request.access is not Access.PRIVATE:
            return None
        return Guard(tunnel, self._server, self._places, self._gate, self._signed)

    @hookimpl
    def register_routes(self) -> Sequence[Route]:
        """Add the login page and the API of profiles; preflights are answered where there is a login service."""
        routes = [
            Route("GET", "/login", self._serve_login, hosts=("auth", "api")),
            Route("GET", PROFILE_TUNNELS, self._serve_profile, hosts=("api",)),
        ]
        if origin := self._options.service.origin:
            routes += [
                Route("OPTIONS", "/login", preflight(origin), hosts=("auth", "api")),
                Route("OPTIONS", PROFILE_TUNNELS, preflight(origin), hosts=("api",)),
            ]
        return routes

    async def _serve_login(self, request: web.Request) -> web.Response:
        return await self._login(request)

    async def _serve_profile(self, request: web.Request) -> web.Response:
        return await self._profiles(request)
