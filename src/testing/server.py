"""A real server in this process, and who talks to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import asyncssh
from prometheus_client.parser import text_string_to_metric_families

from tunnel_server.app.container import Container
from tunnel_server.app.serve import start
from tunnel_server.hookspecs import Server, hookimpl
from tunnel_server.testing.apps import App, Handler
from tunnel_server.testing.clients import Refused, connected
from tunnel_server.testing.loading import loaded
from tunnel_server.testing.log import Event, kept
from tunnel_server.testing.visits import Answer, Visitor, new_session

if TYPE_CHECKING:
    from tunnel_server.app.serve import Ports
    from tunnel_server.domain.tunnel import Tunnel


class _Guest:
    """The plugin by which a test gets the server that plugins see."""

    name = "testing"
    server: Server

    @hookimpl
    def startup(self, server: Server) -> None:
        self.server = server


@dataclass(frozen=True, slots=True)
class Published:
    """A tunnel that is open. ``host`` is its host name, ``client`` the SSH connection that holds it."""

    tunnel: Tunnel
    host: str
    client: asyncssh.SSHClientConnection
    _server: RunningServer

    async def get(
        self, path: str = "/", headers: Mapping[str, str] | None = None, *, method: str = "GET", body: bytes = b""
    ) -> Answer:
        """Visit the tunnel."""
        return await self._server.get(self.host, path, headers, method=method, body=body)


class RunningServer:
    """A server that runs. ``server`` is what plugins get at their start, ``log`` whatever was logged so far.

    ``container`` has the server's own parts, which change from version to version.
    """

    def __init__(self, container: Container, ports: Ports, server: Server, visitor: Visitor, log: list[Event]) -> None:
        self.container = container
        self._visitor = visitor
        self.http_port: int = ports.http.port
        self.ssh_port: int = ports.ssh.port
        self.server = server
        self.log = log

    # clients

    @asynccontextmanager
    async def ssh(
        self, key: asyncssh.SSHKey | None = None, *, username: str = "env", **options: Any
    ) -> AsyncIterator[asyncssh.SSHClientConnection]:
        """Log in with ``key``, by default a new one; ``options`` are further ones of ``asyncssh.connect``.

        Raises:
            Refused: the client was rejected.
        """
        keys = [key or asyncssh.generate_private_key("ssh-ed25519")]
        async with connected(self.ssh_port, **({"client_keys": keys, "username": username} | options)) as (client, _):
            yield client

    @asynccontextmanager
    async def tunnel(
        self,
        app: App | Handler | int | None = None,
        name: str = "/web",
        *,
        key: asyncssh.SSHKey | None = None,
        username: str = "env",
    ) -> AsyncIterator[Published]:
        """Publish ``app``: an :class:`App`, a handler for one, or a local port; by default one that echoes.

        ``name`` is the whole forward request, parameters included.

        Raises:
            Refused: the client was rejected, or the tunnel.
        """
        keys = [key or asyncssh.generate_private_key("ssh-ed25519")]
        async with AsyncExitStack() as stack:
            port = await self._port(stack, app)
            client, told = await stack.enter_async_context(
                connected(self.ssh_port, client_keys=keys, username=username)
            )
            before = self.server.tunnels()
            try:
                await client.forward_remote_path_to_port(name, "127.0.0.1", port)
            except asyncssh.ChannelListenError as error:
                raise Refused(told.latest or str(error)) from None
            yield self._published(client, [tunnel for tunnel in self.server.tunnels() if tunnel not in before], name)

    def _published(self, client: asyncssh.SSHClientConnection, opened: list[Tunnel], name: str) -> Published:
        found = [tunnel for tunnel in opened if tunnel.request.text == name]
        if not found:
            raise Refused("the tunnel was closed as soon as it was open")
        return Published(found[0], self.server.base.tunnel_host(found[0].label), client, self)

    async def _port(self, stack: AsyncExitStack, app: App | Handler | int | None) -> int:
        if isinstance(app, int):
            return app
        if isinstance(app, App):
            return app.port
        return (await stack.enter_async_context(App(app))).port

    # visitors

    async def get(
        self,
        host: str,
        path: str = "/",
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        body: bytes = b"",
    ) -> Answer:
        """Ask over HTTP; redirects are not followed. ``host`` is a tunnel's, or one of the server's own."""
        return await self._visitor.ask(method, host, path, headers or {}, body)

    # what the operator sees

    def metrics(self) -> str:
        """Return what Prometheus would read."""
        text: bytes = self.container.metrics().render()[0]
        return text.decode()

    def metric(self, name: str, **labels: str) -> float:
        """Return the value of one sample; 0 if there is none. Its name is whole: a counter's ends in ``_total``."""
        families = text_string_to_metric_families(self.metrics())
        samples = (sample for family in families for sample in family.samples)
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


@asynccontextmanager
async def run_server(
    plugins: Iterable[object] = (), *, settings: Mapping[str, object] | None = None, folder: Path | None = None
) -> AsyncIterator[RunningServer]:
    """Run a server with ``plugins``: modules, classes, objects, or the names of installed ones.

    The house's own plugins are there, too; other installed ones are not. ``settings`` are by their key in the settings
    file, such as ``my_policy_limit``. ``folder`` is for what the server keeps; without one it is lost.

    Raises:
        InvalidSetting: a setting is unknown or wrong.
        InvalidPlugin: a plugin cannot be loaded or started.
    """
    async with AsyncExitStack() as stack:
        log = stack.enter_context(kept())
        folder = folder or Path(stack.enter_context(TemporaryDirectory()))
        guest = _Guest()
        ready = loaded([*plugins, guest], settings or {}, folder).start()
        container = Container(settings=ready.settings, hooks=ready.plugins)
        ports = await start(container, ready.settings, stack)
        visitor = Visitor(await stack.enter_async_context(new_session()), ports.http.port)
        yield RunningServer(container, ports, guest.server, visitor, log)
