"""The control plane's aiohttp application, to which the relay hands connections."""

from __future__ import annotations

import asyncio
import html
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

import structlog
from aiohttp import web

from tunnel_server.domain.errors import InvalidPlugin
from tunnel_server.domain.negotiation import Answer, preferred
from tunnel_server.domain.routing import Surface
from tunnel_server.hookspecs import Route

if TYPE_CHECKING:
    from tunnel_server.domain.naming import BaseUrl

INSTANCE = "Tunnel-Server-Instance"  # which start of which server answered, as `tunnel-server doctor` wants to know
ALWAYS = {"Connection": "close", "Server": "tunnel-server", "X-Content-Type-Options": "nosniff"}
UNLESS_SET = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "Referrer-Policy": "no-referrer",
}

_HOSTS = {Surface.ROOT: "", Surface.AUTH: "auth", Surface.API: "api"}

log = structlog.get_logger()


class ControlPlane:
    """Serves while entered; ``protocol`` gives a handler for one connection and one answer on it.

    ``ready`` tells whether new requests are welcome, ``ssh_hint`` is the command shown to a visitor, ``hsts`` the
    value of Strict-Transport-Security for answers over TLS, empty for none. ``challenge_answer`` gives what a CA has
    to find at a path of its challenges, or ``None`` (RFC 8555 §8.3). ``routes`` are those of plugins, by whose names.

    Raises:
        InvalidPlugin: on entering, when a plugin's address is taken or malformed.
    """

    def __init__(
        self,
        base: BaseUrl,
        ready: Callable[[], bool],
        ssh_hint: str,
        hsts: str = "",
        challenge_answer: Callable[[str], bytes | None] | None = None,
        routes: Sequence[tuple[str, Route]] = (),
    ) -> None:
        self._base = base
        self._ready = ready
        self._hint = ssh_hint
        self._hsts = hsts
        self._challenge_answer = challenge_answer
        self._others = routes
        self._instance = {INSTANCE: secrets.token_hex(8)}
        self._runners: dict[Surface, web.AppRunner] = {}

    async def __aenter__(self) -> Self:
        for surface in Surface:
            app = web.Application(middlewares=[_tidy])
            self._add_routes(app, _HOSTS[surface])
            app.on_response_prepare.append(self._last_answer)
            self._runners[surface] = web.AppRunner(app, access_log=None, handle_signals=False, logger=_quiet())
            await self._runners[surface].setup()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for runner in self._runners.values():
            await runner.cleanup()

    def _add_routes(self, app: web.Application, host: str) -> None:
        routes = [
            ("", Route("GET", "/", self._root)),
            ("", Route("GET", "/healthz", self._healthz)),
            ("", Route("GET", "/readyz", self._readyz)),
            ("", Route("GET", "/.well-known/acme-challenge/{token}", self._challenge)),
            *((plugin, route) for plugin, route in self._others if host in route.hosts),
        ]
        taken: dict[tuple[str, str], str] = {}
        for plugin, route in routes:
            place = route.method, route.path
            if place in taken:
                whose = taken[place] or "the server"
                raise InvalidPlugin(f"plugin {plugin}: {route.method} {route.path} on {host!r} is {whose}'s")
            taken[place] = plugin
            add = app.router.add_get if route.method == "GET" else partial(app.router.add_route, route.method)
            try:
                add(route.path, route.handler)
            except (ValueError, RuntimeError) as error:
                raise InvalidPlugin(f"plugin {plugin}: {route.method} {route.path} cannot be served: {error}") from None

    def protocol(self, surface: Surface) -> asyncio.Protocol:
        """Return a protocol that takes over a connection at a message boundary, answers once and closes it.

        ``surface`` is the one of the server's hosts that the request is for.
        """
        server = self._runners[surface].server
        assert server is not None
        return server()

    async def _last_answer(self, request: web.Request, response: web.StreamResponse) -> None:
        # The next request on this connection may be for a tunnel, so the connection ends here.
        response.force_close()
        response.headers.update(ALWAYS)
        for name, value in UNLESS_SET.items():
            response.headers.setdefault(name, value)
        if self._hsts and request.secure:
            response.headers["Strict-Transport-Security"] = self._hsts

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="OK", headers=self._instance)

    async def _readyz(self, request: web.Request) -> web.Response:
        ready = self._ready()
        return web.Response(text="ready" if ready else "stopping", status=200 if ready else 503, headers=self._instance)

    async def _challenge(self, request: web.Request) -> web.Response:
        answer = self._challenge_answer(request.path) if self._challenge_answer is not None else None
        if answer is None:
            raise web.HTTPNotFound
        return web.Response(body=answer, content_type="application/octet-stream")

    async def _root(self, request: web.Request) -> web.Response:
        if preferred(request.headers.get("Accept", "")) is not Answer.HTML:
            return web.Response(text=f"tunnel server at {self._base.root_url}\n{self._hint}\n")
        return _page(
            "Tunnel server", f"Publish what listens on your port 5000:<pre>{html.escape(self._hint)}</pre>", 200
        )


def _quiet() -> logging.Logger:
    """Return a log for aiohttp that is not written: what a visitor sends wrong would fill it; what fails we log."""
    quiet = logging.getLogger("tunnel_server.aiohttp")
    quiet.setLevel(logging.CRITICAL + 1)
    return quiet


@web.middleware
async def _tidy(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _problem(request, error.status, error.reason)
    except Exception:
        log.exception("control.failed", path=request.path)
        return _problem(request, 500, "Internal Server Error")


def _problem(request: web.Request, status: int, reason: str) -> web.Response:
    match preferred(request.headers.get("Accept", "")):
        case Answer.JSON:
            return web.Response(text=json.dumps({"message": reason}), content_type="application/json", status=status)
        case Answer.HTML:
            return _page(reason, "There is nothing at this address.", status)
        case Answer.TEXT:
            return web.Response(text=reason + "\n", status=status)


def _page(title: str, body: str, status: int) -> web.Response:
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        "<style>body{font:1.1rem/1.6 system-ui,sans-serif;max-width:42rem;margin:15vh auto;padding:0 1rem}</style>"
        f"<h1>{html.escape(title)}</h1><p>{body}</p></html>\n"
    )
    return web.Response(text=page, content_type="text/html", status=status)
