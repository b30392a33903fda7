"""What the pages of sign-in and profiles have in common: their errors, and who may read them from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

MAX_SHOWN = 100  # characters of what a visitor sent that are shown


def problem(request: web.Request, status: int, message: str, headers: Mapping[str, str]) -> web.Response:
    """Return an error as JSON, if the visitor wants that, else as text."""
    if "application/json" in request.headers.get("Accept", ""):
        return web.json_response({"message": message}, status=status, headers=headers)
    return web.Response(text=message + "\n", status=status, headers=headers)


def shown(text: str) -> str:
    """Return what a visitor sent, fit to be shown."""
    return "".join(character if character.isprintable() else "?" for character in text[:MAX_SHOWN])


def cors(origin: str) -> dict[str, str]:
    """Return the fields by which pages of ``origin``, if it is not empty, may read an answer (Fetch §3.2.3)."""
    if not origin:
        return {}
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Vary": "Origin",
    }


def preflight(origin: str) -> Any:
    """Return a handler that tells browsers that pages of ``origin`` may ask with a token."""

    async def handle(request: web.Request) -> web.Response:
        if not origin or request.headers.get("Origin") != origin:
            raise web.HTTPForbidden(reason="Other origins have no access")
        allowed = {
            "Access-Control-Allow-Methods": "GET",
            "Access-Control-Allow-Headers": "authorization",
            "Access-Control-Max-Age": "600",
        }
        return web.Response(status=204, headers=cors(origin) | allowed)

    return handle
