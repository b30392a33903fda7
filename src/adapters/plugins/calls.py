"""Calls one implementation of a hook, so that whatever it does is its own affair."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

import structlog

from tunnel_server.domain.access import Refuse

if TYPE_CHECKING:
    from tunnel_server.adapters.plugins.watch import Watch
    from tunnel_server.domain.metrics import PluginMetrics

QUIET = 1.0  # seconds between two log lines on one plugin's failures of one kind

UNDECIDED = Refuse(503, "This server could not decide whether you may see this; try again later.")

log = structlog.get_logger()


class HookFailed(Exception):
    """An implementation raised, took too long or returned nonsense; it is logged and counted by now."""

    def __init__(self, plugin: str, hook: str) -> None:
        super().__init__(f"the plugin {plugin} failed in {hook}")
        self.plugin = plugin
        self.hook = hook


@dataclass(frozen=True, slots=True)
class Implementation:
    """A plugin's function for a hook, and the names of the arguments that it wants."""

    plugin: str
    hook: str
    function: Callable[..., Any]
    arguments: tuple[str, ...]


class Calls:
    """Calls implementations; ``timeout`` is in seconds, for those that are async."""

    def __init__(self, metrics: PluginMetrics, watch: Watch, timeout: float) -> None:
        self._metrics = metrics
        self._watch = watch
        self.timeout = timeout
        self._quiet_until: dict[tuple[str, str, str], float] = {}
        self._unsaid: dict[tuple[str, str, str], int] = {}

    def call(self, implementation: Implementation, **values: Any) -> Any:
        """Return what the implementation returns, which may be awaitable.

        Raises:
            HookFailed: it raised.
        """
        plugin, hook = implementation.plugin, implementation.hook
        try:
            before = self._watch.enter(plugin, hook)
            try:
                return implementation.function(*[values[name] for name in implementation.arguments])
            finally:
                self._watch.leave(before)
        except BaseException as error:  # a plugin that calls sys.exit() is no reason to stop
            self.failed(plugin, hook, "raised", error)
            raise HookFailed(plugin, hook) from error

    def call_policy(self, plugin: str, hook: str, policy: Callable[[Any], Any], value: Any) -> Any:
        """Return what ``policy`` makes of ``value``; a refusal if it raises. As :meth:`call`, but for every request."""
        before = self._watch.enter(plugin, hook)
        try:
            try:
                return policy(value)
            finally:
                self._watch.leave(before)
        except BaseException as error:
            self.failed(plugin, hook, "raised", error)
            return UNDECIDED

    async def ask(self, implementation: Implementation, timeout: float | None = None, **values: Any) -> Any:
        """Return what the implementation returns, awaited if need be.

        Raises:
            HookFailed: it raised, or took longer than ``timeout``, by default that of all.
        """
        value = self.call(implementation, **values)
        if inspect.isawaitable(value):
            return await self.settle(implementation.plugin, implementation.hook, value, timeout)
        return value

    async def settle(
        self,
        plugin: str,
        hook: str,
        value: Awaitable[Any],
        timeout: float | None = None,
        note: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Return what ``value`` gives; if it does not within the time limit, it is cancelled and left alone.

        ``note`` makes of it what is returned, and does so even if whoever waits leaves before it is collected.

        Raises:
            HookFailed: it raised, or took too long.
        """
        if isinstance(value, asyncio.Future):  # whose, we do not know: others may wait for it, too
            value = asyncio.shield(value)
        task = asyncio.create_task(self.watched(plugin, hook, value, note), name=f"{plugin} {hook}")
        try:
            done, _ = await asyncio.wait({task}, timeout=self.timeout if timeout is None else timeout)
        except asyncio.CancelledError:
            task.cancel()
            task.add_done_callback(_ignore)
            raise
        if not done:
            task.cancel()
            task.add_done_callback(_ignore)
            self.failed(plugin, hook, "timeout")
            raise HookFailed(plugin, hook)
        if task.cancelled():
            self.failed(plugin, hook, "raised", asyncio.CancelledError("it cancelled itself"))
            raise HookFailed(plugin, hook)
        error = task.exception()
        if error is not None:
            self.failed(plugin, hook, "raised", error)
            raise HookFailed(plugin, hook) from error
        return task.result()

    async def watched(
        self, plugin: str, hook: str, value: Awaitable[Any], note: Callable[[Any], Any] | None = None
    ) -> Any:
        """Await ``value``, watched at each of its steps; return what ``note``, if there is one, makes of it."""
        try:
            given = await _Watched(self._watch, plugin, hook, value)
            return given if note is None else note(given)
        except (SystemExit, KeyboardInterrupt) as error:  # out of a task these would stop the loop
            raise RuntimeError(f"it raised {type(error).__name__}") from error

    def nonsense(self, plugin: str, hook: str, value: object) -> HookFailed:
        """Log and count an answer that is none, and return what to raise."""
        self.failed(plugin, hook, "nonsense", TypeError(f"it returned {_short(value)}"))
        return HookFailed(plugin, hook)

    def failed(self, plugin: str, hook: str, kind: str, error: BaseException | None = None) -> None:
        """Log and count a failure; one that comes again and again is logged once a second."""
        self._metrics.plugin_failed(plugin, hook, kind)
        key, now = (plugin, hook, kind), monotonic()
        if now < self._quiet_until.get(key, 0.0):
            self._unsaid[key] = self._unsaid.get(key, 0) + 1
            return
        self._quiet_until[key] = now + QUIET
        log.error(
            "plugin.failed",
            plugin=plugin,
            hook=hook,
            kind=kind,
            unsaid=self._unsaid.pop(key, 0),
            exc_info=error if kind == "raised" else None,
            reason=None if error is None else _short(error),
        )


class _Watched:
    """An awaitable that runs another, and tells the watch whenever that has the loop."""

    def __init__(self, watch: Watch, plugin: str, hook: str, value: Awaitable[Any]) -> None:
        self._watch = watch
        self._names = plugin, hook
        self._value = value

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._value if isinstance(self._value, Coroutine) else _coroutine(self._value)
        send: Callable[[Any], Any] = steps.send
        argument: Any = None
        while True:
            before = self._watch.enter(*self._names)
            try:
                future = send(argument)
            except StopIteration as end:
                return end.value
            finally:
                self._watch.leave(before)
            try:
                argument, send = (yield future), steps.send
            except BaseException as error:
                argument, send = error, steps.throw


async def _coroutine(value: Awaitable[Any]) -> Any:
    return await value


def _short(value: object) -> str:
    try:
        text = str(value) if isinstance(value, BaseException) else repr(value)
    except Exception:
        text = f"a {type(value).__name__} that cannot be shown"
    return text[:200]


def _ignore(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()
