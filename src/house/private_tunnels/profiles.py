"""The API by which a client's programs see what it publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from tunnel_server.house.private_tunnels.answers import cors, problem, shown
from tunnel_server.house.private_tunnels.credentials import Ambiguous, explicit
from tunnel_server.house.private_tunnels.gate import Gate, Profile
from tunnel_server.house.private_tunnels.sessions import Role
from tunnel_server.house.private_tunnels.tokens import TokenRefused

if TYPE_CHECKING:
    from tunnel_server import Server, Tunnel
    from tunnel_server.house.private_tunnels.options import LoginService

REALM = {"WWW-Authenticate": 'Bearer, Basic realm="Secure Area"'}


class ProfileApi:
    """``GET /profiles/<thumbprint>/tunnels``."""

    def __init__(self, server: Server, gate: Gate, service: LoginService) -> None:
        self._server = server
        self._gate = gate
        self._service = service

    async def __call__(self, request: web.Request) -> web.Response:
        """Return the profile's tunnels to who has a token of it."""
        headers = cors(self._service.origin)
        thumbprint = request.match_info["thumbprint"]
        tunnels = self._server.of_profile(thumbprint)
        if not tunnels:
            return problem(request, 404, f"Unknown profile: {shown(thumbprint)}", headers)
        try:
            role = self._role(request, Profile.of(tunnels[0].client))
        except (TokenRefused, Ambiguous) as error:
            return problem(request, 400, f"Sign-in failed: {error or 'several Authorization fields'}", headers)
        if role is not Role.ADMIN:
            return problem(request, 401, "A token of this profile is needed", headers | REALM)
        return web.json_response([_described(tunnel) for tunnel in tunnels], headers=headers)

    def _role(self, request: web.Request, profile: Profile) -> Role | None:
        found = explicit(request.headers.getall("Authorization", []))
        if found is not None:
            return self._gate.identify(found.token, profile).role
        identity = self._gate.by_cookies(request.headers.getall("Cookie", []), profile)
        return None if identity is None else identity.role


def _described(tunnel: Tunnel) -> dict[str, Any]:
    meta = {} if tunnel.request.meta is None else {"meta": tunnel.request.meta}
    return {
        "envId": tunnel.client.user,
        "hostname": tunnel.label,
        "access": str(tunnel.request.access),
        **meta,
    }
