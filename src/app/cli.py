"""The command ``tunnel-server``."""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from tunnel_server.app import settings as known
from tunnel_server.domain.errors import InvalidPlugin, InvalidSetting, TunnelServerError
from tunnel_server.domain.printable import printable

if TYPE_CHECKING:
    from tunnel_server.app.plugins import Loaded

EXIT_FAILED = 1
EXIT_USAGE = 2
HIDDEN = "********"
HEALTH_WITHIN = 3.0  # seconds
MAX_MESSAGE = 4096  # characters of a line

app = typer.Typer(
    name="tunnel-server",
    help="Publish local services on the web over plain SSH.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Config = Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")]
BaseUrl = Annotated[str | None, typer.Option("--base-url", help="Public URL: scheme, host, optional port.")]
Port = Annotated[str | None, typer.Option("--port", help="HTTP port.")]
SshPort = Annotated[str | None, typer.Option("--ssh-port", help="SSH port.")]
MetricsPort = Annotated[str | None, typer.Option("--metrics-port", help="Metrics port.")]
TlsPort = Annotated[str | None, typer.Option("--tls-port", help="Port for HTTPS and SSH.")]
DevTls = Annotated[
    bool | None, typer.Option("--dev-tls/--no-dev-tls", help="Serve TLS with a certificate for development.")
]
ListenHost = Annotated[str | None, typer.Option("--listen-host", help="Address to serve on; empty for all.")]
LogFormat = Annotated[str | None, typer.Option("--log-format", help="auto, json or console.")]
AccessLog = Annotated[bool | None, typer.Option("--access-log/--no-access-log", help="Log every request.")]
Plugin = Annotated[
    list[str] | None, typer.Option("--plugin", help="Module to use as a plugin, or module:attribute; repeatable.")
]
PluginsDir = Annotated[str | None, typer.Option("--plugins-dir", help="Folder of plugins of one file each.")]
Debug = Annotated[bool | None, typer.Option("--debug/--no-debug", help="Log more.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tunnel-server {installed_version('tunnel-server')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Publish local services on the web over plain SSH."""


@app.command()
def run(
    config: Config = None,
    base_url: BaseUrl = None,
    port: Port = None,
    ssh_port: SshPort = None,
    tls_port: TlsPort = None,
    dev_tls: DevTls = None,
    metrics_port: MetricsPort = None,
    listen_host: ListenHost = None,
    log_format: LogFormat = None,
    access_log: AccessLog = None,
    plugin: Plugin = None,
    plugins_dir: PluginsDir = None,
    debug: Debug = None,
) -> None:
    """Serve until stopped by SIGTERM or Ctrl-C."""
    loaded = _load(
        config,
        base_url=base_url,
        port=port,
        ssh_port=ssh_port,
        tls_port=tls_port,
        dev_tls=dev_tls,
        metrics_port=metrics_port,
        listen_host=listen_host,
        log_format=log_format,
        access_log=access_log,
        plugin_modules=plugin,
        plugins_dir=plugins_dir,
        debug=debug,
    )
    # Imported here, so that --help and a wrong setting answer at once.
    from tunnel_server.app import logs, serve

    logs.configure(loaded.settings.log_format, loaded.settings.debug)
    try:
        loaded.start()
        status = serve.run(loaded.settings, loaded.plugins)
    except TunnelServerError as error:
        _fail(str(error), EXIT_FAILED)
    raise typer.Exit(status)


@app.command("config")
def show_config(
    config: Config = None,
    base_url: BaseUrl = None,
    port: Port = None,
    ssh_port: SshPort = None,
    tls_port: TlsPort = None,
    dev_tls: DevTls = None,
    metrics_port: MetricsPort = None,
    listen_host: ListenHost = None,
    log_format: LogFormat = None,
    access_log: AccessLog = None,
    plugin: Plugin = None,
    plugins_dir: PluginsDir = None,
    debug: Debug = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the effective settings with where each came from; secrets are hidden."""
    loaded = _load(
        config,
        base_url=base_url,
        port=port,
        ssh_port=ssh_port,
        tls_port=tls_port,
        dev_tls=dev_tls,
        metrics_port=metrics_port,
        listen_host=listen_host,
        log_format=log_format,
        access_log=access_log,
        plugin_modules=plugin,
        plugins_dir=plugins_dir,
        debug=debug,
    )
    rows = {
        name: (_shown(known.about(name).secret, getattr(loaded.settings, name)), loaded.origins[name])
        for name in known.names()
    }
    for name, (plugin_name, its) in loaded.declared.items():
        rows[name] = _shown(its.secret, loaded.of_plugins[plugin_name][its.name]), loaded.origins[name]
    if as_json:
        typer.echo(
            json.dumps(
                {name: {"value": value, "from": origin} for name, (value, origin) in rows.items()},
                indent=2,
                default=str,
            )
        )
        return
    width = max(len(name) for name in rows)
    for name, (value, origin) in rows.items():
        typer.echo(f"{name:{width}} = {json.dumps(value, ensure_ascii=False, default=str)}  # {origin}")


@app.command()
def healthcheck(config: Config = None, port: Port = None, listen_host: ListenHost = None) -> None:
    """Ask the server on this machine whether it is ready; exit status 0 if it is. For a container's health check."""
    import http.client
    import signal

    def too_late(number: int, frame: object) -> None:
        raise TimeoutError(f"no answer within {HEALTH_WITHIN:g} s")

    # One limit for all of it: an answer that drips is none.
    signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, HEALTH_WITHIN)
    try:
        found = known.only(("port", "listen_host"), _given(port=port, listen_host=listen_host), os.environ, config)
        connection = http.client.HTTPConnection(found["listen_host"] or "127.0.0.1", found["port"])
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (InvalidSetting, OSError, http.client.HTTPException) as error:
        _fail(f"not ready: {error}", EXIT_FAILED)
    if status != http.client.OK:
        _fail(f"not ready: status {status}", EXIT_FAILED)


@app.command()
def doctor(
    config: Config = None,
    base_url: BaseUrl = None,
    port: Port = None,
    ssh_port: SshPort = None,
    tls_port: TlsPort = None,
    dev_tls: DevTls = None,
    metrics_port: MetricsPort = None,
    listen_host: ListenHost = None,
    plugin: Plugin = None,
    plugins_dir: PluginsDir = None,
    timeout: Annotated[str, typer.Option(help="Time that one look may take.")] = "5s",
    time_server: Annotated[str, typer.Option(help="Time server to compare the clock with, host[:port], or none.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check DNS, ports, certificates, host key, clock and plugins from here; exit status 0 if nothing failed."""
    import asyncio

    from tunnel_server.app.doctor.trusted import check_list_of_cas

    try:
        check_list_of_cas(os.environ)  # before what speaks TLS is imported
    except InvalidSetting as error:
        _fail(str(error), EXIT_USAGE)
    from tunnel_server.app import logs
    from tunnel_server.app.doctor import report
    from tunnel_server.app.doctor.checks import run_checks
    from tunnel_server.app.doctor.inputs import How, read_inputs
    from tunnel_server.domain.diagnosis.finding import healthy

    logs.configure("auto", False)
    flags = _given(
        base_url=base_url,
        port=port,
        ssh_port=ssh_port,
        tls_port=tls_port,
        dev_tls=dev_tls,
        metrics_port=metrics_port,
        listen_host=listen_host,
        plugin_modules=plugin,
        plugins_dir=plugins_dir,
    )
    try:
        inputs = read_inputs(flags, os.environ, config, How.of(timeout, time_server))
    except InvalidSetting as error:
        _fail(str(error), EXIT_USAGE)
    findings = asyncio.run(run_checks(inputs))
    typer.echo(report.as_json(findings) if as_json else report.as_text(findings))
    raise typer.Exit(0 if healthy(findings.values()) else EXIT_FAILED)


@app.command("plugins")
def show_plugins(
    config: Config = None,
    plugin: Plugin = None,
    plugins_dir: PluginsDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the plugins with version, source and hooks."""
    from tunnel_server.app.plugins import found_plugins

    try:
        hooks = found_plugins(_given(plugin_modules=plugin, plugins_dir=plugins_dir), os.environ, config)
    except (InvalidSetting, InvalidPlugin) as error:
        _fail(str(error), EXIT_USAGE)
    rows = [
        {
            "name": found.name,
            "version": found.version,
            "source": found.source,
            "hooks": list(hooks.hooks_of(found.name)),
        }
        for found in hooks.plugins
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        version = f" {row['version']}" if row["version"] else ""
        typer.echo(f"{row['name']}{version} ({row['source']}): {', '.join(row['hooks'])}")


@app.command("new-plugin")
def new_plugin(
    name: Annotated[str, typer.Argument(help="The plugin's name: small letters, digits and hyphens.")],
    folder: Annotated[Path, typer.Option("--folder", help="Where to make it.")] = Path(),
) -> None:
    """Make a new plugin: a package with a hook, a setting and tests that pass."""
    from tunnel_server.app import scaffold

    try:
        made = scaffold.create(name, folder)
    except TunnelServerError as error:
        _fail(str(error), EXIT_USAGE)
    typer.echo(f"made {made}; now: cd {made} && pip install -e '.[test]' && pytest")


def _shown(secret: bool, value: object) -> object:
    if secret:
        return HIDDEN if value else ""
    return [str(entry) for entry in value] if isinstance(value, tuple) else value


def _load(config: Path | None, **flags: str | bool | list[str] | None) -> Loaded:
    from tunnel_server.app.plugins import load

    try:
        return load(_given(**flags), os.environ, config)
    except (InvalidSetting, InvalidPlugin) as error:
        _fail(str(error), EXIT_USAGE)


def _given(**flags: str | bool | list[str] | None) -> dict[str, str]:
    return {name: _flag(value) for name, value in flags.items() if value is not None}


def _flag(value: str | bool | list[str]) -> str:
    if isinstance(value, list):
        return ",".join(value)
    return value if isinstance(value, str) else ("true" if value else "false")


def _fail(message: str, status: int) -> NoReturn:
    for line in message.splitlines():
        print(f"tunnel-server: {printable(line, MAX_MESSAGE)}", file=sys.stderr)
    raise typer.Exit(status)
