"""The login page: gives who is signed in a session, and sends everybody else to the login service."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from aiohttp import web

from tunnel_server import Access
from tunnel_server.house.private_tunnels.answers import cors, problem, shown
from tunnel_server.house.private_tunnels.credentials import Ambiguous, cookies, explicit
from tunnel_server.house.private_tunnels.gate import Gate, Profile
from tunnel_server.house.private_tunnels.places import (
    CARRIED,
    NotAPath,
    Places,
    cookie_name,
    return_path,
    with_parameter,
)
from tunnel_server.house.private_tunnels.sessions import Role, Session, Signed
from tunnel_server.house.private_tunnels.tokens import TokenRefused

if TYPE_CHECKING:
    from tunnel_server import Server, Tunnel
    from tunnel_server.house.private_tunnels.options import LoginService

_NAME = re.compile(r"[a-z0-9_.-]{1,253}")


class LoginPage:
    """``GET /login?env=<name of a tunnel>&returnPath=<path there>``."""

    def __init__(self, server: Server, places: Places, gate: Gate, signed: Signed, service: LoginService) -> None:
        self._server = server
        self._places = places
        self._gate = gate
        self._signed = signed
        self._service = service

    async def __call__(self, request: web.Request) -> web.Response:
        """Answer, with fields by which the login service's pages may read it."""
        headers = cors(self._service.origin)
        env = request.query.get("env", "")
        if not env:
            return problem(request, 400, "env is missing", headers)
        try:
            path = return_path(request.query.get("returnPath", "/"))
        except NotAPath:
            return problem(request, 400, "returnPath is not a path that begins with one /", headers)
        name = env.lower()
        tunnel = self._server.find(name) if _NAME.fullmatch(name) else None
        if tunnel is None:
            return problem(request, 404, f"Unknown envId: {shown(env)}", headers)
        try:
            session = self._signed_in(request, Profile.of(tunnel.client))
        except (TokenRefused, Ambiguous) as error:
            return problem(request, 400, f"Sign-in failed: {error or 'several Authorization fields'}", headers)
        if session is None:
            return self._elsewhere(request, name, path, headers)
        return self._back(request, tunnel, name, path, session)

    def _signed_in(self, request: web.Request, profile: Profile) -> Session | None:
        """Return the visitor's session, an old or a new one. That of a guest is not kept: roles change.

        Raises:
            Ambiguous, TokenRefused: of what is in the field ``Authorization``; a cookie's token that is over is none.
        """
        fields = request.headers.getall("Cookie", [])
        scope = self._places.scope(self._places.host(request.host))
        for value in cookies(fields, cookie_name(profile.thumbprint)):
            session = self._signed.sessions.read(value, profile.thumbprint, scope)
            if session is not None and session.role is Role.ADMIN:
                return session
        found = explicit(request.headers.getall("Authorization", []))
        if found is not None:
            identity = self._gate.identify(found.token, profile)
            return self._signed.sessions.until(identity.role, identity.expires_at)
        try:
            known = self._gate.by_cookies(fields, profile)
        except TokenRefused:
            return None
        return None if known is None else self._signed.sessions.until(known.role, known.expires_at)

    def _elsewhere(self, request: web.Request, name: str, path: str, headers: dict[str, str]) -> web.Response:
        if not self._service.url:
            return problem(request, 401, "You are not signed in", headers)
        here = self._places.login(name, path, self._places.name(self._places.host(request.host)))
        location = f"{self._service.url}/api/auth/login?redirectTo={quote(here, safe='')}"
        return web.Response(status=302, headers=headers | {"Location": location})

    def _back(self, request: web.Request, tunnel: Tunnel, name: str, path: str, session: Session) -> web.Response:
        """Send a visitor back with a session; with a ticket where the cookie set here is not sent."""
        thumbprint = str(tunnel.client.thumbprint)
        here = self._places.host(request.host)
        value = self._signed.sessions.make(session, thumbprint, self._places.scope(here))
        cookie = self._places.session_cookie(session, value, thumbprint, here)
        there = self._places.tunnel_host(name)
        if self._places.scope(there) and tunnel.request.access is Access.PRIVATE:  # no other app would take it away
            path = with_parameter(path, CARRIED, self._signed.tickets.make(session, thumbprint, there))
        return web.Response(status=302, headers={"Location": self._places.page(there, path), "Set-Cookie": cookie})
