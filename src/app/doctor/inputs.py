"""What is checked, and how: a server's settings and plugins, as `run` would have them, or why there are none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from tunnel_server.app import settings as known
from tunnel_server.app.doctor.loading import load_apart
from tunnel_server.app.settings import Settings
from tunnel_server.domain.errors import InvalidPlugin, InvalidSetting
from tunnel_server.domain.naming import BaseUrl
from tunnel_server.domain.setting_types import duration

NTP_PORT = 123
TIME_SERVER = ("time.cloudflare.com", NTP_PORT)  # anybody may ask it, which the NTP pool wants of no program by default
NOBODY = "none"


@dataclass(frozen=True, slots=True)
class How:
    """How to look. ``limit`` is seconds for one look.

    ``time_server`` is asked where the kernel gives no word, or ``always``; ``None`` for nobody.
    """

    limit: float = 5.0
    time_server: tuple[str, int] | None = TIME_SERVER
    always: bool = False

    @classmethod
    def of(cls, limit: str, time_server: str) -> Self:
        """Read both as they are given, a time server as host[:port], as none, or empty for the default.

        Raises:
            InvalidSetting: naming what is wrong.
        """
        try:
            seconds = duration(0.1, 60)(limit)
        except ValueError as error:
            raise InvalidSetting(f"--timeout: {limit!r} {error}; for example: 5s") from None
        if not time_server:
            return cls(seconds)
        return cls(seconds, None) if time_server == NOBODY else cls(seconds, _place(time_server), always=True)


def _place(time_server: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{time_server}")
        host, port = parts.hostname if parts.netloc == time_server else None, parts.port or NTP_PORT
    except ValueError:
        host, port = None, 0
    if not host:
        raise InvalidSetting(f"--time-server: {time_server!r} is not host[:port]; for example: time.example.com")
    return host, port


@dataclass(frozen=True, slots=True)
class Inputs:
    """A server's settings, the names of its ``plugins`` and of the ``hooks`` that they have.

    ``problem`` says why there are none, if the plugins cannot be used.
    """

    settings: Settings
    base: BaseUrl
    how: How
    plugins: tuple[str, ...] = ()
    hooks: frozenset[str] = frozenset()
    cookie_secrets: int = 0
    problem: str = ""


def read_inputs(flags: Mapping[str, str], environ: Mapping[str, str], file: Path | None, how: How) -> Inputs:
    """Read the settings and load the plugins, which are given their settings and not started.

    Raises:
        InvalidSetting: as `run` would; of a server whose plugins do not load, its own settings only are read.
    """
    try:
        found = load_apart(flags, environ, file)
    except InvalidPlugin as error:
        settings = _own(known.only(tuple(known.names()), flags, environ, file))
        return Inputs(settings, BaseUrl.parse(settings.base_url), how, problem=str(error))
    base = BaseUrl.parse(found.settings.base_url)
    return Inputs(found.settings, base, how, found.plugins, found.hooks, found.cookie_secrets)


def _own(values: dict[str, Any]) -> Settings:
    values["base_url"] = values["base_url"] or known.default_base_url(values)
    return Settings(**values)
