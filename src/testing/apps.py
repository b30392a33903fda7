"""A small HTTP service to publish."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class App:
    """Serves every address with one of aiohttp's handlers while entered; ``port`` is on loopback.

    Without a handler it echoes: JSON with ``method``, ``path`` (query included), ``headers`` (names in lower case,
    lines of one name joined by ``, ``) and ``body``. ``paths`` are those asked for, in order.
    """

    port: int

    def __init__(self, handler: Handler | None = None) -> None:
        self._handler = handler or _echo
        self.paths: list[str] = []

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path_qs)
        return await self._handler(request)


async def _echo(request: web.Request) -> web.Response:
    names = dict.fromkeys(name.lower() for name in request.headers)
    headers = {name: ", ".join(request.headers.getall(name)) for name in names}
    body = await request.text()
    return web.json_response({"method": request.method, "path": request.path_qs, "headers": headers, "body": body})
