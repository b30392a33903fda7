"""Every setting, read once at the edge: from flags, the environment, a file, or by default."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any

from tunnel_server.app.setting_fields import PORT, PORT_LIMITS, About, as_about, buffer, count, seconds, setting
from tunnel_server.app.tls_settings import TlsSettings, contradictions
from tunnel_server.domain.ciphers import EVERY
from tunnel_server.domain.errors import InvalidBaseUrl, InvalidSetting
from tunnel_server.domain.naming import BaseUrl
from tunnel_server.domain.plugin_setting import Setting
from tunnel_server.domain.setting_types import (
    Network,
    boolean,
    choice,
    lines,
    networks,
    node_flag,
    several,
    size,
    text,
    words,
)

PREFIX = "TUNNEL_SERVER_"
MAX_FILE = 1 << 20  # octets

Declared = tuple[str, Setting]  # a plugin's name, and what it declares


def _base_url(value: str) -> str:
    try:
        BaseUrl.parse(value)
    except InvalidBaseUrl as error:
        raise ValueError(f"is no base URL: {error}") from None
    return value


_CIPHERS = tuple(cipher.decode() for cipher in EVERY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(TlsSettings):
    """The effective settings. Durations are seconds, sizes octets."""

    base_url: str = setting(
        "",
        _base_url,
        "public URL of the server: scheme, host, optional port",
        "https://tunnels.example.com",
        env="BASE_URL",
    )
    port: int = setting(3000, PORT, "HTTP port", "3000", env="PORT", limits=PORT_LIMITS)
    ssh_port: int = setting(2222, PORT, "SSH port", "2222", env="SSH_PORT", limits=PORT_LIMITS)
    metrics_port: int = setting(8888, PORT, "Prometheus metrics port", "8888", env="METRICS_PORT", limits=PORT_LIMITS)
    listen_host: str = setting("", text, "address to serve HTTP, SSH and TLS on; empty for all", "127.0.0.1")
    metrics_host: str = setting("", text, "address to serve metrics on; empty for all", "127.0.0.1")
    ssh_host_key_path: str = setting(
        "./ssh/ssh_host_key",
        text,
        "file of the SSH host key; made if it is not there",
        "/etc/tunnel/key",
        env="SSH_HOST_KEY_PATH",
    )
    ssh_host_key: str = setting(
        "", lines, "the SSH host key itself: base64 of its text", "LS0tLS1CRUdJTi…", env="SSH_HOST_KEY", secret=True
    )
    debug: bool = setting(False, node_flag, "log more", "1", env="DEBUG")
    log_format: str = setting(
        "auto", choice("auto", "json", "console"), "form of the log; auto: console on a terminal", "json"
    )
    access_log: bool = setting(False, boolean, "log every request", "true")

    login_timeout: float = seconds(30, "time an SSH client has to log in", 1, 3600)
    keepalive_interval: float = seconds(10, "pause between signs of life asked of an SSH client", 1, 3600)
    keepalive_count_max: int = count(3, "unanswered signs of life after which a client is gone", 1, 100)
    probe_timeout: float = seconds(5, "time the holder of a contested name has to answer", 0.1, 60)
    channel_open_timeout: float = seconds(10, "time a client has to open a channel", 0.1, 600)
    max_unauthenticated: int = count(500, "SSH connections that have not logged in yet")
    max_tunnels_per_connection: int = count(100, "tunnels of one SSH connection")
    max_sessions_per_connection: int = count(10, "sessions of one SSH connection", 1, 1000)
    ssh_ciphers: tuple[str, ...] = setting(
        (),
        several(*_CIPHERS),
        "ciphers to offer, best first; none: AES-GCM to whoever has it, whatever it likes best",
        "aes256-gcm@openssh.com",
        limits=", ".join(_CIPHERS),
    )
    lean_ssh: bool = setting(True, boolean, "handle packets on the lean path; false: all on asyncssh's own", "false")
    channel_memory: int = setting(
        64 << 20,
        size(1 << 20, 4 << 30),
        "what the services of one SSH connection may send ahead of their visitors, all together",
        "64MiB",
        limits="1 MiB to 4 GiB",
    )

    head_size: int = setting(
        64 * 1024,
        size(1024, 1 << 20),
        "size of a request's head; of HTTP/2, at most half of it in Huffman coding",
        "64KiB",
        limits="1 KiB to 1 MiB",
    )
    header_count: int = count(100, "header fields of a request", 10, 10_000)
    head_timeout: float = seconds(15, "time a request's head may take")
    keepalive_timeout: float = seconds(75, "time a visitor's connection may be idle between requests")
    body_timeout: float = seconds(60, "time a request's body may stand still")
    response_timeout: float = seconds(600, "time a service may take to begin its answer")
    idle_timeout: float = seconds(3600, "time a begun answer or an upgraded connection may stand still", 1, 7 * 86400.0)
    max_channels: int = count(512, "requests under way at once on one tunnel; a visitor alone has half", 1, 10_000)
    max_channels_per_client: int = count(
        768, "requests under way at once on all tunnels of one SSH connection; a visitor alone has half", 1, 10_000
    )
    queue_length: int = count(2048, "requests waiting on one tunnel; a visitor alone has half", 0, 100_000)
    queue_timeout: float = seconds(10, "time a request may wait for its turn")
    pool_idle_timeout: float = seconds(30, "time an unused channel is kept")
    max_visitors: int = count(10_000, "visitors' connections")
    listen_backlog: int = count(4096, "connections that may wait to be accepted, on each port", 1, 65535)
    ssh_socket_buffer: int = buffer("an SSH client's socket")
    visitor_socket_buffer: int = buffer("a visitor's socket, and of any on the TLS port")
    trusted_proxies: tuple[Network, ...] = setting(
        (), networks, "networks of proxies whose X-Forwarded-* count", "10.0.0.0/8, fd00::/8"
    )
    http_proxy_protocol: tuple[Network, ...] = setting(
        (),
        networks,
        "networks of proxies that begin each connection to the HTTP port with a PROXY header",
        "10.0.0.0/8",
    )
    ssh_proxy_protocol: tuple[Network, ...] = setting((), networks, "the same for the SSH port", "10.0.0.0/8")

    plugins: tuple[str, ...] = setting(
        (),
        words,
        "the plugins to use, the house's own among them; none: every one that is found",
        "accept-any-key, private-tunnels, quotas",
    )
    plugin_modules: tuple[str, ...] = setting(
        (), words, "modules to use as plugins, or attributes of them", "my_policy, my_package.policies:Strict"
    )
    plugins_dir: str = setting("", text, "folder of plugins of one file each", "/etc/tunnel/plugins")
    hook_timeout: float = seconds(5, "time a plugin may take to answer", 0.1, 60)

    grace_period: float = seconds(15, "time that requests under way have to finish at a stop", 0, 3600)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, those of each plugin, and where each came from."""

    settings: Settings
    origins: dict[str, str]
    of_plugins: dict[str, dict[str, Any]]


def about(name: str) -> About:
    """Return what is known of the setting ``name``."""
    found: About = _FIELDS[name].metadata["about"]
    return found


def names() -> list[str]:
    """Return every setting's name, which is also its key in the file."""
    return list(_FIELDS)


def only(
    wanted: tuple[str, ...], flags: Mapping[str, str], environ: Mapping[str, str], file: Path | None
) -> dict[str, Any]:
    """Return some settings, whatever the others are: plugins that declare more are not needed for it.

    Raises:
        InvalidSetting: one of those is wrong, or the file cannot be read.
    """
    sources = _Sources(flags, environ, file, {})
    found = {name: sources.value(name, about(name)) for name in wanted}
    sources.complain(only=wanted)
    return {name: _FIELDS[name].default if value is None else value for name, value in found.items()}


def load(
    flags: Mapping[str, str],
    environ: Mapping[str, str],
    file: Path | None,
    declared: Mapping[str, Declared] | None = None,
) -> Loaded:
    """Read all settings; a flag goes before the environment, that before the file.

    ``flags`` holds the text of those given, by setting name; ``declared`` what plugins declare, by its whole name.

    Raises:
        InvalidSetting: with a line for each setting that is unknown or wrong.
    """
    more = declared or {}
    sources = _Sources(flags, environ, file, more)
    values = {name: value for name in _FIELDS if (value := sources.value(name, about(name))) is not None}
    of_plugins: dict[str, dict[str, Any]] = {}
    for name, (plugin, its) in more.items():
        value = sources.value(name, as_about(its))
        if value is None and its.required and sources.origins[name] == "default":
            example = f"; for example: {its.example}" if its.example else ""
            sources.wrong.append(f"{PREFIX}{name.upper()}: is needed by the plugin {plugin}: {its.help}{example}")
        of_plugins.setdefault(plugin, {})[its.name] = its.default if value is None else value
    sources.complain()
    if not values.get("base_url"):
        values["base_url"] = default_base_url(values)
    settings = Settings(**values)
    if contradicting := contradictions(
        settings, BaseUrl.parse(settings.base_url), trusts_proxies=bool(settings.trusted_proxies)
    ):
        raise InvalidSetting("\n".join(contradicting))
    return Loaded(settings, sources.origins, of_plugins)


class _Sources:
    """Where settings may come from, the first before the next; what is wrong with them is collected."""

    def __init__(
        self,
        flags: Mapping[str, str],
        environ: Mapping[str, str],
        file: Path | None,
        declared: Mapping[str, Declared],
    ) -> None:
        self.wrong: list[str] = []
        self.origins: dict[str, str] = {}
        plain = {name: about(name).env for name in _FIELDS} | {name: its.env for name, (_, its) in declared.items()}
        self._sources = [
            {name: (value, f"flag --{name.replace('_', '-')}") for name, value in flags.items()},
            _from_environment(environ, plain, self.wrong),
            _from_file(file, plain, self.wrong),
        ]

    def value(self, name: str, its: About) -> Any:
        """Return the value of one setting; ``None`` if it is nowhere, or wrong."""
        self.origins[name] = "default"
        for source in self._sources:
            if name in source:
                raw, self.origins[name] = source[name]
                try:
                    return its.read(raw)
                except Exception as error:  # a plugin's reader may raise anything, and quote the value
                    ours = its.read.__module__.startswith("tunnel_server.")
                    problem = str(error) if isinstance(error, ValueError) else f"cannot be read: {error!r}"
                    if its.secret and not ours:
                        problem = "is not as it has to be"
                    self.wrong.append(_complaint(name, its, self.origins[name], raw, problem))
                return None
        return None

    def complain(self, only: tuple[str, ...] = ()) -> None:
        """Raise if something is wrong; with ``only`` that of some settings, as long as not all are known."""
        wrong = [line for line in self.wrong if not only or line.partition(":")[0] in only]
        if wrong:
            raise InvalidSetting("\n".join(wrong))


_FIELDS: dict[str, Field[Any]] = {entry.name: entry for entry in fields(Settings)}
_Source = dict[str, tuple[str, str]]


def default_base_url(values: Mapping[str, Any]) -> str:
    """Return the base URL of a server that is told none, by its other settings."""
    scheme, port = ("https", "tls_port") if values.get("dev_tls") else ("http", "port")
    number = values.get(port, _FIELDS[port].default)
    return f"{scheme}://localhost:{number}" if number else f"{scheme}://localhost"


def _complaint(name: str, its: About, origin: str, raw: str, problem: str) -> str:
    shown = "the value" if its.secret else repr(raw if len(raw) <= 80 else raw[:80] + "…")
    limits = f" ({its.limits})" if its.limits else ""
    example = f"; for example: {its.example}" if its.example else ""
    return f"{name}: {shown} ({origin}) {problem}{limits}{example}"


def _from_environment(environ: Mapping[str, str], names: Mapping[str, str | None], wrong: list[str]) -> _Source:
    """Read what is set there; ``names`` are those of all settings, each with its name at the reference server."""
    environ = _without_services(environ)
    known = {f"{PREFIX}{name.upper()}": name for name in names}
    source: _Source = {}
    for name, plain in names.items():
        # An empty variable is one that is not set: compose files pass them on so.
        if plain is not None:
            known[PREFIX + plain] = name
            if environ.get(plain):
                source[name] = (environ[plain], f"environment {plain}")
    for variable in sorted(key for key in environ if key.startswith(PREFIX)):
        if variable not in known:
            wrong.append(f"{variable} (environment) is no setting{_suggestion(variable, list(known))}")
        elif environ[variable]:
            name = known[variable]
            if name in source and source[name][0] != environ[variable]:
                other = source[name][1].removeprefix("environment ")
                wrong.append(f"{name}: {other} and {variable} (environment) differ; set one of them")
            source[name] = (environ[variable], f"environment {variable}")
    return source


def _without_services(environ: Mapping[str, str]) -> dict[str, str]:
    """Leave out what Kubernetes tells a pod of each Service, in variables of which some are called as settings are."""
    named = (key.removesuffix("_SERVICE_HOST") for key in environ if key.endswith("_SERVICE_HOST"))
    services = "|".join(re.escape(name) for name in named if name and f"{name}_SERVICE_PORT" in environ)
    told = re.compile(rf"(?:{services})_(?:SERVICE_(?:HOST|PORT(?:_.+)?)|PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?|(PORT))")

    def is_setting(key: str, value: str) -> bool:
        found = told.fullmatch(key)
        return found is None or (found[1] is not None and "://" not in value)

    return {key: value for key, value in environ.items() if not services or is_setting(key, value)}


def _from_file(file: Path | None, names: Mapping[str, str | None], wrong: list[str]) -> _Source:
    if file is None:
        return {}
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_FILE + 1)
        if len(text) > MAX_FILE:
            raise InvalidSetting(f"the settings file {file} is larger than {MAX_FILE} octets")
        found = tomllib.loads(text.decode("utf-8"))
    except OSError as error:
        raise InvalidSetting(f"cannot read the settings file {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidSetting(f"the settings file {file} is not TOML: {error}; for example: port = 3000") from None
    source: _Source = {}
    for key, value in found.items():
        if key not in names:
            wrong.append(f"{key} (file {file}) is no setting{_suggestion(key, list(names))}")
            continue
        try:
            source[key] = (_as_text(value), f"file {file}")
        except ValueError as error:
            wrong.append(f"{key}: the value (file {file}) {error}")
    return source


def _as_text(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int() | float():
            return str(value)
        case list() if all(isinstance(entry, str) for entry in value):
            return ",".join(value)
        case _:
            raise ValueError("is not text, a number, true or false, or a list of texts")


def _suggestion(name: str, allowed: list[str]) -> str:
    by_rest = {known.removeprefix(PREFIX): known for known in allowed}  # what all have in common makes all alike
    close = difflib.get_close_matches(name.removeprefix(PREFIX), by_rest, 1, 0.75)
    return f"; did you mean {by_rest[close[0]]}?" if close else "; no plugin in use has it, and the server has not"
