"""The metrics port."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aiohttp import web

from tunnel_server.domain.errors import ListenerFailed

if TYPE_CHECKING:
    from tunnel_server.adapters.metrics.prometheus import PrometheusMetrics


def metrics_app(metrics: PrometheusMetrics) -> web.Application:
    """Return the application that serves ``/metrics`` and ``/healthz``."""

    async def show(request: web.Request) -> web.Response:
        body, content_type = metrics.render()
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def healthz(request: web.Request) -> web.Response:
        return web.Response(text="OK")

    app = web.Application()
    app.router.add_get("/metrics", show)
    app.router.add_get("/healthz", healthz)
    return app


class MetricsListener:
    """Listens while entered: on the sockets ``given``, which listen already, or else on ``address``.

    Raises:
        ListenerFailed: on entering, when the port cannot be had.
    """

    def __init__(
        self, metrics: PrometheusMetrics, address: tuple[str, int], given: Sequence[socket.socket] = ()
    ) -> None:
        self._metrics = metrics
        self._address = address
        self._given = given

    @property
    def port(self) -> int:
        """The port listened on, also where the system chose it."""
        return int(self._runner.addresses[0][1])

    async def __aenter__(self) -> Self:
        host, port = self._address
        self._runner = web.AppRunner(metrics_app(self._metrics), access_log=None, handle_signals=False)
        await self._runner.setup()
        sites: list[web.BaseSite] = [web.SockSite(self._runner, sock) for sock in self._given]
        try:
            for site in sites or [web.TCPSite(self._runner, host or None, port)]:
                await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise ListenerFailed(f"cannot listen for metrics on port {port}: {error.strerror or error}") from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
