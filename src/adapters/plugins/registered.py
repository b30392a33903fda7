"""What plugins add to the server, asked for once at the start."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from tunnel_server.adapters.plugins.calls import Calls, HookFailed, Implementation
from tunnel_server.adapters.plugins.hooks import Hooks
from tunnel_server.domain.errors import InvalidPlugin
from tunnel_server.domain.plugin_setting import Setting
from tunnel_server.domain.ports import DnsChallenge
from tunnel_server.domain.session import HELLO, TUNNEL_URL
from tunnel_server.hookspecs import Command, Route

_WORD = re.compile(r"[a-z][a-z0-9-]{0,31}")
BODY_WITHIN = 30.0  # seconds
_METHOD = re.compile(r"[A-Z]{1,32}")
_HOSTS = frozenset({"", "auth", "api"})


def declared_settings(hooks: Hooks) -> dict[str, tuple[Setting, ...]]:
    """Return what each plugin declares for itself, by the plugin's name.

    Raises:
        InvalidPlugin: it fails, or declares what is no setting.
    """
    found: dict[str, tuple[Setting, ...]] = {}
    for hook in hooks.of("register_settings"):
        found[hook.plugin] = tuple(_each(hook, Setting, _at_start(hook)))
    return found


def configure(hooks: Hooks, values: Mapping[str, Mapping[str, Any]]) -> None:
    """Give each plugin the values of its settings, and forget the hooks that it then does not want.

    Raises:
        InvalidPlugin: it does not take them.
    """
    for hook in hooks.of("configure"):
        _at_start(hook, settings=values.get(hook.plugin, {}))
    hooks.forget_what_is_not_wanted()


def commands(hooks: Hooks) -> dict[str, tuple[str, Command]]:
    """Return the words that plugins add, each with its plugin's name.

    Raises:
        InvalidPlugin: a plugin fails, or a word is malformed or taken.
    """
    found: dict[str, tuple[str, Command]] = {}
    for hook in hooks.of("register_commands"):
        for command in _each(hook, Command, _at_start(hook)):
            if not isinstance(command.name, str) or _WORD.fullmatch(command.name) is None:
                raise InvalidPlugin(f"plugin {hook.plugin}: {command.name!r} is no word for a command")
            if not callable(command.run):
                raise InvalidPlugin(f"plugin {hook.plugin}: the command {command.name} has nothing to run")
            if command.name in (HELLO, TUNNEL_URL):
                raise InvalidPlugin(f"plugin {hook.plugin}: the command {command.name} is the server's own")
            if command.name in found:
                raise InvalidPlugin(f"plugin {hook.plugin}: the command {command.name} is {found[command.name][0]}'s")
            found[command.name] = hook.plugin, command
    return found


def routes(hooks: Hooks, calls: Calls) -> list[tuple[str, Route]]:
    """Return the addresses that plugins add, each with its plugin's name, and guarded.

    Raises:
        InvalidPlugin: a plugin fails, or an address is malformed.
    """
    found: list[tuple[str, Route]] = []
    for hook in hooks.of("register_routes"):
        for route in _each(hook, Route, _at_start(hook)):
            if not _is_route(route):
                raise InvalidPlugin(f"plugin {hook.plugin}: {route.method} {route.path!r} on {route.hosts} is no route")
            found.append((hook.plugin, replace(route, handler=_guarded(hook.plugin, route.handler, calls))))
    return found


def _is_route(route: Route) -> bool:
    return (
        isinstance(route.method, str)
        and _METHOD.fullmatch(route.method) is not None
        and isinstance(route.path, str)
        and route.path.startswith("/")
        and callable(route.handler)
        and isinstance(route.hosts, tuple)
        and set(map(str, route.hosts)) <= _HOSTS
    )


def _guarded(plugin: str, handler: Callable[[Any], Awaitable[Any]], calls: Calls) -> Callable[[Any], Awaitable[Any]]:
    """Return a handler that has a time limit, and whose failures are the plugin's."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            await _received(request)
            answer = await calls.settle(plugin, "register_routes", _answer(handler, request))
            if not isinstance(answer, web.StreamResponse):
                raise calls.nonsense(plugin, "register_routes", answer)
        except HookFailed:
            raise web.HTTPInternalServerError from None
        return answer

    return guarded


async def _received(request: web.Request) -> None:
    """Wait for the request's body: how long that takes is its visitor's affair, and no fault of the handler."""
    try:
        async with asyncio.timeout(BODY_WITHIN):
            await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except ConnectionError:  # the visitor has gone, which is no failure of anybody here
        raise web.HTTPBadRequest from None


async def _answer(handler: Callable[[Any], Awaitable[Any]], request: web.Request) -> Any:
    try:
        return await handler(request)
    except web.HTTPException as error:  # aiohttp's way to answer
        return web.Response(status=error.status, reason=error.reason, headers=error.headers, body=error.body)


def add_collectors(hooks: Hooks, calls: Calls, add: Callable[[Collector], None]) -> None:
    """Add the metrics of plugins by ``add``.

    Raises:
        InvalidPlugin: a plugin fails, or a name is taken.
    """
    for hook in hooks.of("register_metrics"):
        for collector in _each(hook, object, _at_start(hook)):
            if not callable(getattr(collector, "collect", None)):
                raise InvalidPlugin(f"plugin {hook.plugin}: {type(collector).__name__} is no collector of metrics")
            try:
                add(_Guarded(hook.plugin, collector, calls))
            except Exception as error:
                raise InvalidPlugin(f"plugin {hook.plugin}: its metrics cannot be added: {error}") from None


def dns_challenge(hooks: Hooks) -> DnsChallenge | None:
    """Return what publishes TXT records, the first that a plugin offers.

    Raises:
        InvalidPlugin: a plugin fails.
    """
    for hook in hooks.of("dns_challenge"):
        offered = _at_start(hook)
        if offered is not None:
            if not callable(getattr(offered, "publish", None)) or not callable(getattr(offered, "remove", None)):
                raise InvalidPlugin(f"plugin {hook.plugin}: dns_challenge returned no DnsChallenge")
            return offered  # type: ignore[no-any-return]
    return None


class _Guarded(Collector):
    """A plugin's collector; while it raises, its metrics are missing and all others are there."""

    def __init__(self, plugin: str, collector: Any, calls: Calls) -> None:
        self._plugin = plugin
        self._collector = collector
        self._calls = calls

    def describe(self) -> list[Any]:
        """Return the names that the registry has to keep others from."""
        describe = getattr(self._collector, "describe", self._collector.collect)
        return list(describe())

    def collect(self) -> Iterator[Any]:
        try:
            yield from self._calls.call(self._as_hook())
        except HookFailed:
            return

    def _as_hook(self) -> Implementation:
        return Implementation(self._plugin, "register_metrics", self._read, ())

    def _read(self) -> list[Any]:
        """Return what is counted; raise if that cannot be shown, so that nothing of it is."""
        found = list(self._collector.collect())
        shelf = CollectorRegistry()
        shelf.register(_Shelf(found))
        generate_latest(shelf)
        return found


class _Shelf(Collector):
    """Gives what it was given."""

    def __init__(self, families: list[Any]) -> None:
        self._families = families

    def describe(self) -> list[Any]:
        """Return no names: it stands alone."""
        return []

    def collect(self) -> list[Any]:
        return self._families


def _at_start(hook: Implementation, **values: Any) -> Any:
    try:
        return hook.function(*[values[name] for name in hook.arguments])
    except InvalidPlugin:
        raise
    except BaseException as error:
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise InvalidPlugin(f"plugin {hook.plugin} failed in {hook.hook}: {' '.join(reason.split())[:500]}") from error


def _each(hook: Implementation, kind: type[Any], found: Any) -> list[Any]:
    if not isinstance(found, Sequence) or isinstance(found, str) or not all(isinstance(entry, kind) for entry in found):
        raise InvalidPlugin(f"plugin {hook.plugin}: {hook.hook} did not return a list of {kind.__name__}")
    return list(found)
