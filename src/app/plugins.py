"""Loads the plugins and all settings, in the order that each needs the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tunnel_server.adapters.plugins.hooks import Hooks, Plugin
from tunnel_server.adapters.plugins.registered import configure, declared_settings
from tunnel_server.app import settings as known
from tunnel_server.app.discovery import HOUSE, body_of, chosen, loaded, places
from tunnel_server.app.settings import Declared, Settings
from tunnel_server.domain.errors import InvalidPlugin


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, the plugins, what those declare by whole names, and where each setting came from.

    ``of_plugins`` are the values of the plugins' settings, by plugin and name.
    """

    settings: Settings
    plugins: Hooks
    declared: dict[str, Declared]
    origins: dict[str, str]
    of_plugins: dict[str, dict[str, Any]]

    def start(self) -> Loaded:
        """Give each plugin its settings; done once, when the server is about to start.

        Raises:
            InvalidPlugin: one does not take them.
        """
        configure(self.plugins, self.of_plugins)
        return self


def load(
    flags: Mapping[str, str], environ: Mapping[str, str], file: Path | None, extra: Iterable[object] = ()
) -> Loaded:
    """Load the plugins that the settings name, then read all settings.

    ``extra`` are further plugins: modules, classes or objects, named by their ``name`` or, in small letters with
    hyphens, as their class or module is.

    Raises:
        InvalidSetting: with a line for each setting that is unknown or wrong.
        InvalidPlugin: a plugin cannot be loaded or has what is no hook.
    """
    hooks = found_plugins(flags, environ, file, extra)
    declared = _whole_names(hooks)
    read = known.load(flags, environ, file, declared)
    return Loaded(read.settings, hooks, declared, read.origins, read.of_plugins)


def found_plugins(
    flags: Mapping[str, str], environ: Mapping[str, str], file: Path | None, extra: Iterable[object] = ()
) -> Hooks:
    """Return the plugins that the settings name, and ``extra`` ones; no other setting is read.

    Raises:
        InvalidSetting: a setting that says where plugins are is wrong.
        InvalidPlugin: a plugin cannot be loaded or has what is no hook.
    """
    where = known.only(("plugins", "plugin_modules", "plugins_dir"), flags, environ, file)
    found = chosen(places(where["plugin_modules"], where["plugins_dir"]), where["plugins"])
    missing = [target for target in where["plugin_modules"] if f"module {target}" not in {p.source for p in found}]
    if missing:
        raise InvalidPlugin(f"{missing[0]} is given as a plugin, and the setting plugins does not name it")
    plugins = [Plugin(place.name, place.version, place.source, loaded(place)) for place in found]
    given = [
        Plugin(_name_of(body), "", "given", body_of(body) if isinstance(body, ModuleType) else body) for body in extra
    ]
    return Hooks([*plugins, *given])


def house() -> Hooks:
    """Return the house's own plugins, with the defaults of their settings."""
    found = [place for place in places() if place.source == "house"]
    hooks = Hooks(Plugin(place.name, place.version, place.source, loaded(place)) for place in found)
    configure(
        hooks, {name: {s.name: s.default for s in settings} for name, settings in declared_settings(hooks).items()}
    )
    return hooks


def _whole_names(hooks: Hooks) -> dict[str, Declared]:
    """Return what plugins declare, by the names that are set: those of the house's own have no prefix."""
    found: dict[str, Declared] = {}
    for plugin, declared in declared_settings(hooks).items():
        for setting in declared:
            name = setting.name if plugin in HOUSE else f"{plugin.replace('-', '_')}_{setting.name}"
            if setting.env is not None and plugin not in HOUSE:
                raise InvalidPlugin(f"plugin {plugin}: its setting {setting.name} has a variable of its own")
            if name in found or name in known.names():
                raise InvalidPlugin(f"plugin {plugin}: there is a setting {name} already")
            found[name] = plugin, setting
    return found


def _name_of(body: object) -> str:
    given = getattr(body, "name", None)
    if isinstance(given, str):
        return given
    whole = getattr(body, "__name__", type(body).__name__).rpartition(".")[2]
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in whole).replace("_", "-").strip("-")
