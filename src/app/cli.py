"""The command ``tunnel-server``."""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from tunnel_server.app import settings as known
from tunnel_server.domain.errors import InvalidSetting, TunnelServerError

EXIT_FAILED = 1
EXIT_USAGE = 2
HIDDEN = "********"

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
        debug=debug,
    )
    # Imported here, so that --help and a wrong setting answer at once.
    import structlog

    from tunnel_server.app import logs, serve

    logs.configure(loaded.settings.log_format, loaded.settings.debug)
    for name in loaded.ignored:
        structlog.get_logger().warning("setting.ignored", name=name, reason="not supported yet")
    try:
        status = serve.run(loaded.settings)
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
        debug=debug,
    )
    rows = {name: (_shown(name, getattr(loaded.settings, name)), loaded.origins[name]) for name in known.names()}
    if as_json:
        typer.echo(
            json.dumps({name: {"value": value, "from": origin} for name, (value, origin) in rows.items()}, indent=2)
        )
        return
    width = max(len(name) for name in rows)
    for name, (value, origin) in rows.items():
        typer.echo(f"{name:{width}} = {json.dumps(value, ensure_ascii=False)}  # {origin}")


def _shown(name: str, value: object) -> object:
    if known.about(name).secret:
        return HIDDEN if value else ""
    return [str(entry) for entry in value] if isinstance(value, tuple) else value


def _load(config: Path | None, **flags: str | bool | None) -> known.Loaded:
    given = {name: _flag(value) for name, value in flags.items() if value is not None}
    try:
        return known.load(given, os.environ, config)
    except InvalidSetting as error:
        _fail(str(error), EXIT_USAGE)


def _flag(value: str | bool) -> str:
    return value if isinstance(value, str) else ("true" if value else "false")


def _fail(message: str, status: int) -> NoReturn:
    for line in message.splitlines():
        print(f"tunnel-server: {line}", file=sys.stderr)
    raise typer.Exit(status)
