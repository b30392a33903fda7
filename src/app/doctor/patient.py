"""What is to be looked at: settings and plugins, as `run` would have them, or why there are none."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from tunnel_server.app import settings as known
from tunnel_server.app.plugins import load
from tunnel_server.app.settings import Settings
from tunnel_server.domain.errors import InvalidPlugin, InvalidSetting
from tunnel_server.domain.naming import BaseUrl
from tunnel_server.domain.setting_types import duration

if TYPE_CHECKING:
    from tunnel_server.adapters.plugins.hooks import Hooks

PLUGINS_WITHIN = 20.0  # seconds; a plugin may ask somebody at its start
NTP_PORT = 123
TIME_SERVER = ("time.cloudflare.com", NTP_PORT)  # anybody may ask it, which the NTP pool wants of no program by default


@dataclass(frozen=True, slots=True)
class How:
    """How to look. ``limit`` is seconds for one look; ``time_server`` is asked in any case if it is given."""

    limit: float = 5.0
    time_server: tuple[str, int] | None = None

    @classmethod
    def of(cls, limit: str, time_server: str) -> Self:
        """Read both as they are given, a time server as host[:port].

        Raises:
            InvalidSetting: naming what is wrong.
        """
        try:
            seconds = duration(0.1, 60)(limit)
        except ValueError as error:
            raise InvalidSetting(f"--timeout: {limit!r} {error}; for example: 5s") from None
        if not time_server:
            return cls(seconds)
        try:
            parts = urlsplit(f"//{time_server}")
            host, port = parts.hostname if parts.netloc == time_server else None, parts.port or NTP_PORT
        except ValueError:
            host, port = None, 0
        if not host:
            raise InvalidSetting(f"--time-server: {time_server!r} is not host[:port]; for example: time.example.com")
        return cls(seconds, (host, port))


@dataclass(frozen=True, slots=True)
class Patient:
    """A server's settings; ``hooks`` are its plugins, or ``problem`` says why they cannot be used."""

    settings: Settings
    base: BaseUrl
    how: How
    hooks: Hooks | None = None
    problem: str = ""
    cookie_secrets: int = 0


def admit(flags: Mapping[str, str], environ: Mapping[str, str], file: Path | None, how: How) -> Patient:
    """Read the settings and load the plugins, which are given their settings and not started.

    Raises:
        InvalidSetting: as `run` would; of a server whose plugins do not load, its own settings only are read.
    """
    try:
        # What a plugin prints is not to be taken for a finding.
        with _within(PLUGINS_WITHIN), contextlib.redirect_stdout(sys.stderr):
            loaded = load(flags, environ, file).start()
    except InvalidPlugin as error:
        settings = _own(known.only(tuple(known.names()), flags, environ, file))
        return Patient(settings, BaseUrl.parse(settings.base_url), how, problem=str(error))
    secrets = len(loaded.of_plugins.get("private-tunnels", {}).get("cookie_secrets", ()))
    base = BaseUrl.parse(loaded.settings.base_url)
    return Patient(loaded.settings, base, how, loaded.plugins, cookie_secrets=secrets)


def _own(values: dict[str, Any]) -> Settings:
    values["base_url"] = values["base_url"] or known.default_base_url(values)
    return Settings(**values)


@contextlib.contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise TimeoutError, in the main thread, wherever the work inside is after that time."""

    def over(number: int, frame: object) -> None:
        raise TimeoutError(f"it takes longer than {seconds:g} s")

    former = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
