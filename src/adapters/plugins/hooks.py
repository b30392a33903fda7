"""The plugins of one server, registered with pluggy and checked against the hooks' specification."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pluggy

from tunnel_server import hookspecs
from tunnel_server.adapters.plugins.calls import Implementation
from tunnel_server.domain.errors import InvalidPlugin

ASYNC = frozenset(
    {
        "startup",
        "shutdown",
        "authenticate_client",
        "name_tunnel",
        "authorize_tunnel",
        "tunnel_opened",
        "tunnel_closed",
        "authorize_request",
        "request_finished",
        "prove_domain",
    }
)
NAMES = tuple(
    name
    for name, value in vars(hookspecs).items()
    if inspect.isfunction(value) and hasattr(value, "tunnel_server_spec")
)


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin as it was found. ``source`` says where, in words."""

    name: str
    version: str
    source: str
    body: Any


class Hooks:
    """Knows who implements which hook.

    Raises:
        InvalidPlugin: a plugin cannot be made, has no hook, or one with an unknown name or argument; naming both.
    """

    def __init__(self, plugins: Iterable[Plugin] = ()) -> None:
        self._manager = pluggy.PluginManager(hookspecs.GROUP)
        self._manager.add_hookspecs(hookspecs)
        self.plugins = list(plugins)
        for plugin in reversed(self.plugins):  # pluggy calls the last first
            self._add(plugin)
        self._by_hook = {name: self._implementations(name) for name in NAMES}

    def of(self, hook: str) -> tuple[Implementation, ...]:
        """Return the implementations of ``hook`` in the order they are to be called."""
        return self._by_hook[hook]

    def forget_what_is_not_wanted(self) -> None:
        """Leave out hooks that a plugin has set to ``None`` once it knew its settings: they cost nothing."""
        bodies = {plugin.name: self._manager.get_plugin(plugin.name) for plugin in self.plugins}
        self._by_hook = {
            hook: tuple(
                each for each in found if getattr(bodies[each.plugin], "__dict__", {}).get(hook, each) is not None
            )
            for hook, found in self._by_hook.items()
        }

    def hooks_of(self, plugin: str) -> tuple[str, ...]:
        """Return the names of the hooks that a plugin implements."""
        return tuple(name for name, found in self._by_hook.items() if any(i.plugin == plugin for i in found))

    def _add(self, plugin: Plugin) -> None:
        body = _instance(plugin)
        _check(plugin.name, body)
        try:
            self._manager.register(body, plugin.name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise InvalidPlugin(f"plugin {plugin.name} ({plugin.source}): {_one_line(error)}") from None

    def _implementations(self, hook: str) -> tuple[Implementation, ...]:
        found = getattr(self._manager.hook, hook).get_hookimpls()  # the last is to be called first
        return tuple(Implementation(i.plugin_name, hook, i.function, tuple(i.argnames)) for i in reversed(found))


def _instance(plugin: Plugin) -> Any:
    if not inspect.isclass(plugin.body):
        return plugin.body
    try:
        return plugin.body()
    except BaseException as error:  # a constructor may even exit
        if isinstance(error, KeyboardInterrupt):
            raise
        raise InvalidPlugin(f"plugin {plugin.name} ({plugin.source}) cannot be made: {_one_line(error)}") from error


def _check(name: str, body: Any) -> None:
    """Refuse what pluggy would take, but that is a mistake."""
    marked = {key: value for key in dir(body) if _marks(value := _attribute(body, key)) is not None}
    if not marked:
        raise InvalidPlugin(f"plugin {name} has no hook: mark its functions with @hookimpl")
    for key, function in marked.items():
        marks: Any = _marks(function)
        hook = marks.get("specname") or key
        if hook not in NAMES:
            close = difflib.get_close_matches(hook, NAMES, 1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise InvalidPlugin(f"plugin {name}: there is no hook {hook}{meant}")
        _check_arguments(name, hook, function)
        if marks.get("wrapper") or marks.get("hookwrapper"):
            raise InvalidPlugin(f"plugin {name}: {hook} is a wrapper, which is not for plugins of this server")
        if inspect.iscoroutinefunction(function) and hook not in ASYNC:
            raise InvalidPlugin(f"plugin {name}: {hook} may not be async")
    for hook in NAMES:
        function = _attribute(body, hook)
        if inspect.isroutine(function) and _marks(function) is None:
            raise InvalidPlugin(f"plugin {name}: {hook} is not marked with @hookimpl")


def _check_arguments(name: str, hook: str, function: Any) -> None:
    known = list(inspect.signature(getattr(hookspecs, hook)).parameters)
    listed = f"it may have {', '.join(known)}" if known else "it has none"
    if inspect.ismethod(function) and next(iter(inspect.signature(function.__func__).parameters), "") in known:
        raise InvalidPlugin(f"plugin {name}: {hook} is a method without self")
    for argument in inspect.signature(function).parameters.values():
        if argument.kind is argument.KEYWORD_ONLY or argument.kind is argument.VAR_KEYWORD:
            raise InvalidPlugin(f"plugin {name}: {hook} has arguments that go by keyword only")
        if argument.name not in known and argument.default is argument.empty:
            raise InvalidPlugin(f"plugin {name}: {hook} has no argument {argument.name}; {listed}")


def _marks(function: object) -> Any:
    return getattr(function, f"{hookspecs.GROUP}_impl", None) if inspect.isroutine(function) else None


def _attribute(body: Any, name: str) -> object:
    try:
        return getattr(body, name, None)
    except Exception:  # out of a property, which is no hook
        return None


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
