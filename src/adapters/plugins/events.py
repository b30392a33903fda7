"""What plugins are told of, later and in order: an event is never waited for, and a plugin that is slow loses some."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Any

from tunnel_server.adapters.plugins.calls import Calls, HookFailed, Implementation
from tunnel_server.domain.ports import TunnelEvents

if TYPE_CHECKING:
    from tunnel_server.adapters.plugins.hooks import Hooks
    from tunnel_server.domain.tunnel import Tunnel
    from tunnel_server.domain.visit import FinishedRequest

MAX_WAITING = 10_000  # events of one plugin
TURN = 0.002  # seconds in which one plugin is told of events before others have their turn
LAST_WORDS = 2.0  # seconds that plugins have for what waits at the stop

_Event = tuple[Implementation, dict[str, Any]]


class Events(TunnelEvents):
    """Tells each plugin by a task of its own, while entered."""

    def __init__(self, calls: Calls, hooks: Hooks) -> None:
        self._hooks = {name: hooks.of(name) for name in ("tunnel_opened", "tunnel_closed", "request_finished")}
        plugins = dict.fromkeys(hook.plugin for found in self._hooks.values() for hook in found)
        self._calls = calls
        self._queues: dict[str, deque[_Event]] = {plugin: deque() for plugin in plugins}
        self._wake = {plugin: asyncio.Event() for plugin in plugins}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Events:
        self._tasks = [asyncio.create_task(self._tell_on(plugin)) for plugin in self._queues]
        return self

    async def __aexit__(self, *error: object) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                while any(self._queues.values()):
                    await asyncio.sleep(0.01)
        for queue in self._queues.values():
            for hook, _ in queue:
                self._calls.failed(hook.plugin, hook.hook, "dropped")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def tunnel_opened(self, tunnel: Tunnel) -> None:
        self._put("tunnel_opened", {"tunnel": tunnel})

    def tunnel_closed(self, tunnel: Tunnel) -> None:
        self._put("tunnel_closed", {"tunnel": tunnel})

    def request_finished(self, request: FinishedRequest) -> None:
        """Tell of a request that ended."""
        self._put("request_finished", {"request": request})

    def _put(self, name: str, values: dict[str, Any]) -> None:
        for hook in self._hooks[name]:
            queue = self._queues[hook.plugin]
            if len(queue) >= MAX_WAITING:
                self._calls.failed(hook.plugin, hook.hook, "dropped")
                continue
            queue.append((hook, values))
            self._wake[hook.plugin].set()

    async def _tell_on(self, plugin: str) -> None:
        queue, wake = self._queues[plugin], self._wake[plugin]
        while True:
            until = perf_counter() + TURN
            while queue:
                hook, values = queue[0]
                with contextlib.suppress(HookFailed):
                    answer = self._calls.call(hook, **values)
                    if inspect.isawaitable(answer):
                        await self._calls.settle(hook.plugin, hook.hook, answer)
                queue.popleft()
                if perf_counter() > until:
                    await asyncio.sleep(0)
                    until = perf_counter() + TURN
            wake.clear()
            await wake.wait()
