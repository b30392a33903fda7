"""What a plugin may ask of the server, and the plugins' own beginning and end."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from tunnel_server.adapters.plugins.calls import Calls, HookFailed
from tunnel_server.domain.errors import InvalidPlugin
from tunnel_server.domain.identity import Thumbprint
from tunnel_server.hookspecs import Server

if TYPE_CHECKING:
    from tunnel_server.adapters.plugins.hooks import Hooks
    from tunnel_server.adapters.plugins.watch import Watch
    from tunnel_server.domain.naming import BaseUrl
    from tunnel_server.domain.registry import TunnelRegistry
    from tunnel_server.domain.tunnel import Client, Tunnel

START_WITHIN = 30.0  # seconds
STOP_WITHIN = 5.0  # seconds


class Connections(Protocol):
    """Knows who is connected."""

    @abstractmethod
    def clients(self) -> list[Client]:
        """Return who is logged in, once for each connection."""

    @abstractmethod
    def disconnect(self, client: Client, reason: str) -> None:
        """Hang up on a client. Safe to repeat."""

    @abstractmethod
    def close_tunnel(self, tunnel: Tunnel, reason: str) -> None:
        """Close a tunnel. Safe to repeat."""


class PluginServer(Server):
    """The server as one plugin sees it."""

    def __init__(
        self, plugin: str, base: BaseUrl, registry: TunnelRegistry, connections: Connections, calls: Calls
    ) -> None:
        self._plugin = plugin
        self._base = base
        self._registry = registry
        self._connections = connections
        self._calls = calls
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    @property
    def base(self) -> BaseUrl:
        return self._base

    def clients(self) -> list[Client]:
        return self._connections.clients()

    def tunnels(self) -> list[Tunnel]:
        return self._registry.all()

    def find(self, name: str) -> Tunnel | None:
        return self._registry.find(name)

    def of_profile(self, thumbprint: str) -> list[Tunnel]:
        try:
            return self._registry.of_profile(Thumbprint(thumbprint))
        except ValueError:
            return []

    def disconnect(self, client: Client, reason: str) -> None:
        self._connections.disconnect(client, reason)

    def close(self, tunnel: Tunnel, reason: str) -> None:
        self._connections.close_tunnel(tunnel, reason)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._stopped:
            work.close()
            return
        task = asyncio.ensure_future(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await self._calls.watched(self._plugin, "spawn", work)
        except Exception as error:
            self._calls.failed(self._plugin, "spawn", "raised", error)

    async def stop(self) -> None:
        """Cancel what was spawned; what does not heed that is left alone, and nothing more is begun."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=STOP_WITHIN)


class Lives:
    """Starts the plugins when entered, one after the other, and ends them in the reverse order.

    Raises:
        InvalidPlugin: on entering, when one cannot start; those before it are ended.
    """

    def __init__(
        self,
        hooks: Hooks,
        calls: Calls,
        watch: Watch,
        base: BaseUrl,
        registry: TunnelRegistry,
        connections: Connections,
    ) -> None:
        self._hooks = hooks
        self._calls = calls
        self._watch = watch
        self._servers = {
            plugin.name: PluginServer(plugin.name, base, registry, connections, calls) for plugin in hooks.plugins
        }
        self._started: list[str] = []

    async def __aenter__(self) -> Self:
        self._watch.start()
        starts = {hook.plugin: hook for hook in self._hooks.of("startup")}
        for plugin, server in self._servers.items():
            if plugin in starts:
                try:
                    await self._calls.ask(starts[plugin], START_WITHIN, server=server)
                except HookFailed as error:
                    reason = error.__cause__ or f"it took longer than {START_WITHIN:g} s"
                    await self._end()
                    raise InvalidPlugin(f"plugin {plugin} failed in startup: {reason}") from error
                except asyncio.CancelledError:
                    await self._end()
                    raise
            self._started.append(plugin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        ends = {hook.plugin: hook for hook in self._hooks.of("shutdown")}
        await asyncio.gather(*(server.stop() for server in self._servers.values()))
        for plugin in reversed(self._started):
            if plugin in ends:
                try:
                    await self._calls.ask(ends[plugin], STOP_WITHIN)
                except HookFailed:
                    continue  # it is logged; the others are ended all the same
        self._watch.stop()
