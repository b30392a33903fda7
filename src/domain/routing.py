"""Where a request goes, by its Host field and path."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunnel_server.domain.naming import BaseUrl

_BY_PATH = "/proxy/"


class Surface(Enum):
    """Which of the server's own hosts is meant."""

    ROOT = auto()
    AUTH = auto()
    API = auto()


@dataclass(frozen=True, slots=True)
class ToTunnel:
    """To the tunnel with ``label``, as ``path``; ``prefix`` is what was cut off the path, if it was served by path."""

    label: str
    path: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class ToControl:
    """To the server itself."""

    surface: Surface


Route = ToTunnel | ToControl

_RESERVED = {"auth": Surface.AUTH, "api": Surface.API, "proxy": Surface.ROOT}


class Router:
    """Routes requests for one base URL."""

    def __init__(self, base: BaseUrl) -> None:
        self._suffix = f".{base.hostname}"

    def route(self, host: str, path: str) -> Route:
        """Return where a request goes.

        ``host`` is the Host field's value, with or without a port, empty if there was none;
        ``path`` is the target in origin-form, query included.
        """
        name = without_port(host).lower().removesuffix(".")
        surface = Surface.ROOT
        if name.endswith(self._suffix):
            label = name[: -len(self._suffix)]
            if label not in _RESERVED:
                return ToTunnel(label, path)
            surface = _RESERVED[label]
        if surface is Surface.ROOT and path.startswith(_BY_PATH):
            return _by_path(path)
        return ToControl(surface)


def _by_path(path: str) -> Route:
    end = len(path)
    for mark in "/?":
        found = path.find(mark, len(_BY_PATH))
        if found >= 0:
            end = min(end, found)
    label = path[len(_BY_PATH) : end].lower()
    if not label:
        return ToControl(Surface.ROOT)
    rest = path[end:]
    return ToTunnel(label, rest if rest.startswith("/") else "/" + rest, _BY_PATH + label)


def without_port(host: str) -> str:
    """Return a Host field's value without its port, if it has one."""
    name, colon, port = host.rpartition(":")
    return name if colon and not port.endswith("]") else host
