"""Settings and plugins of a server for tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tunnel_server.app.discovery import places
from tunnel_server.app.plugins import Loaded, load
from tunnel_server.app.settings import PREFIX, only

BASE_URL = "http://tunnels.test"


def loaded(plugins: Iterable[object], settings: Mapping[str, object], folder: Path) -> Loaded:
    """Return what a server runs with: ``plugins``, those of the house, and those that ``settings`` name.

    Raises:
        InvalidSetting: a setting is unknown or wrong.
        InvalidPlugin: a plugin cannot be loaded.
    """
    names = [plugin for plugin in plugins if isinstance(plugin, str)]
    environ = {f"{PREFIX}{name.upper()}": _text(value) for name, value in (_usual(folder) | {**settings}).items()}
    environ.setdefault(f"{PREFIX}PLUGINS", ",".join(_chosen(names, environ)))
    return load({}, environ, None, [plugin for plugin in plugins if not isinstance(plugin, str)])


def _usual(folder: Path) -> dict[str, object]:
    return {
        "base_url": BASE_URL,
        "port": 0,
        "ssh_port": 0,
        "tls_port": 0,
        "metrics_port": 0,
        "listen_host": "127.0.0.1",
        "metrics_host": "127.0.0.1",
        "ssh_host_key_path": folder / "ssh_host_key",
        "grace_period": 1,
    }


def _chosen(names: list[str], environ: Mapping[str, str]) -> list[str]:
    """Return which plugins to use: of those that are installed here by chance only those of ``names``."""
    where = only(("plugin_modules", "plugins_dir"), {}, environ, None)
    found = places(where["plugin_modules"], where["plugins_dir"])
    return [*(place.name for place in found if not place.source.startswith("package ")), *names]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(map(str, value))
    return str(value)
