"""Finds plugins: the house's own, those installed, modules, and files of a folder."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points, version
from pathlib import Path
from types import ModuleType
from typing import Any

from tunnel_server.domain.errors import InvalidPlugin
from tunnel_server.hookspecs import GROUP

HOUSE = {
    "accept-any-key": "tunnel_server.house.accept_any_key",
    "reserved-names": "tunnel_server.house.reserved_names:ReservedNames",
    "private-tunnels": "tunnel_server.house.private_tunnels:PrivateTunnels",
}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
ATTRIBUTE = "plugin"  # of a module, what to use in the module's place


@dataclass(frozen=True, slots=True)
class Place:
    """Where a plugin is, before it is loaded."""

    name: str
    version: str
    source: str
    load: Callable[[], Any]


def places(modules: Iterable[str] = (), folder: str = "") -> list[Place]:
    """Return where plugins are, in the order of loading: the house's, installed ones by name, modules, files by name.

    Raises:
        InvalidPlugin: the folder cannot be read, or two have the same name.
    """
    found = [
        *(_in_house(name, target) for name, target in HOUSE.items()),
        *sorted(_installed(), key=lambda place: place.name),
        *(Place(_name_of(target), "", f"module {target}", partial(_imported, target)) for target in modules),
        *_in_folder(folder),
    ]
    by_name: dict[str, Place] = {}
    for place in found:
        if _NAME.fullmatch(place.name) is None:
            raise InvalidPlugin(f"{place.name!r} ({place.source}) is no name of a plugin: letters, digits and hyphens")
        if place.name in by_name:
            raise InvalidPlugin(f"two plugins are called {place.name}: {by_name[place.name].source}, {place.source}")
        by_name[place.name] = place
    return found


def chosen(found: list[Place], names: tuple[str, ...]) -> list[Place]:
    """Return those of ``names``; all if there are none.

    Raises:
        InvalidPlugin: a name is that of no plugin.
    """
    known = [place.name for place in found]
    for name in names:
        if name not in known:
            raise InvalidPlugin(f"there is no plugin {name}; found: {', '.join(known)}")
    return [place for place in found if not names or place.name in names]


def loaded(place: Place) -> Any:
    """Return a plugin's body.

    Raises:
        InvalidPlugin: it cannot be loaded.
    """
    try:
        return place.load()
    except BaseException as error:  # a module may even exit
        if isinstance(error, KeyboardInterrupt):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        raise InvalidPlugin(f"plugin {place.name} ({place.source}) cannot be loaded: {reason}") from error


def _in_house(name: str, target: str) -> Place:
    return Place(name, version("tunnel-server"), "house", partial(_imported, target))


def _installed() -> Iterable[Place]:
    for point in entry_points(group=GROUP):
        package = point.dist
        source = f"package {package.name}" if package else "package"
        yield Place(point.name, package.version if package else "", source, point.load)


def _in_folder(folder: str) -> Iterable[Place]:
    if not folder:
        return
    try:
        files = sorted(path for path in Path(folder).iterdir() if path.suffix == ".py" and path.name[0] not in "_.")
    except OSError as error:
        raise InvalidPlugin(f"the folder of plugins {folder} cannot be read: {error.strerror}") from None
    for path in files:
        yield Place(_name_of(path.stem), "", f"file {path}", partial(_from_file, path))


def _name_of(target: str) -> str:
    target = Path(target).stem if target.endswith(".py") else target
    return target.partition(":")[0].rpartition(".")[2].replace("_", "-")


def _imported(target: str) -> Any:
    if target.endswith(".py") or "/" in target:
        raise ValueError("it is a file: use --plugins-dir for its folder")
    module, _, attribute = target.partition(":")
    found: Any = importlib.import_module(module)
    for part in attribute.split(".") if attribute else ():
        found = getattr(found, part)
    return found if attribute else body_of(found)


def _from_file(path: Path) -> Any:
    name = f"tunnel_server_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look there
    spec.loader.exec_module(module)
    return body_of(module)


def body_of(module: ModuleType) -> Any:
    """Return what of a module is the plugin: its attribute ``plugin`` if it has one, else itself."""
    return getattr(module, ATTRIBUTE, module)
