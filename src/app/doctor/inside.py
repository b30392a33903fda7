"""Checks of what is on this machine."""

from __future__ import annotations

import os
import stat
from functools import partial
from pathlib import Path

from tunnel_server.adapters.checkup import clock as clocks
from tunnel_server.adapters.checkup.aside import aside
from tunnel_server.adapters.checkup.resolver import is_here, own_addresses
from tunnel_server.adapters.checkup.trouble import EXPECTED, trouble_of
from tunnel_server.adapters.ssh.hostkey import load_host_key
from tunnel_server.app.discovery import HOUSE
from tunnel_server.app.doctor.surroundings import Surroundings
from tunnel_server.app.keeping import goes_with
from tunnel_server.domain.diagnosis import clock, host_key, plugins, ports
from tunnel_server.domain.diagnosis.finding import Finding, skipped
from tunnel_server.domain.diagnosis.host_key import HostKey
from tunnel_server.domain.errors import InvalidHostKey


async def check_plugins(around: Surroundings) -> Finding:
    """Check that plugins load and take their settings."""
    inputs = around.inputs
    guests = not HOUSE.keys() >= set(inputs.plugins)
    return plugins.judge(inputs.plugins, inputs.problem, "authenticate_client" in inputs.hooks, guests)


async def check_sessions(around: Surroundings) -> Finding:
    """Check that visitors of private tunnels stay signed in over a restart."""
    if "private-tunnels" not in around.inputs.plugins:
        return skipped("private tunnels are not in use")
    return plugins.sessions(around.inputs.cookie_secrets)


async def check_http_port(around: Surroundings) -> Finding:
    """Check who is on the HTTP port."""
    return ports.judge(await around.http(), await around.runs())


async def check_ssh_port(around: Surroundings) -> Finding:
    """Check who is on the SSH port."""
    return ports.judge(await around.ssh(), await around.runs())


async def check_tls_port(around: Surroundings) -> Finding:
    """Check who is on the TLS port."""
    return ports.judge(await around.tls(), await around.runs())


async def check_metrics_port(around: Surroundings) -> Finding:
    """Check who is on the metrics port, and that it is not for all the world."""
    base = await around.resolved(around.base.hostname)
    here = [address for address in base.addresses if is_here(address)]
    return ports.metrics(await around.metrics(), await around.runs(), [*here, *own_addresses()])


async def check_host_key(around: Surroundings) -> Finding:
    """Check that the host key is there, is the one that is shown, and stays."""
    settings = around.settings
    try:
        found = await aside(partial(_host_key, settings.ssh_host_key_path, settings.ssh_host_key), around.limit)
    except TimeoutError:
        path = settings.ssh_host_key_path
        found = HostKey(path, problem=f"{path} cannot be read within {around.limit:g} s")
    return host_key.judge(found, (await around.ssh()).identity)


def _host_key(path: str, encoded: str) -> HostKey:
    try:
        if encoded:
            return HostKey("", load_host_key(Path(path), encoded).get_fingerprint())
        try:
            state = Path(path).stat()
        except FileNotFoundError:
            return HostKey(path, writable=_can_be_made(Path(path)), lost_with=goes_with(Path(path)))
        fingerprint = load_host_key(Path(path), None).get_fingerprint()
        open_to_all = bool(state.st_mode & stat.S_IROTH)
        return HostKey(path, fingerprint, open_to_all=open_to_all, lost_with=goes_with(Path(path)))
    except InvalidHostKey as error:
        return HostKey(path, problem=str(error))
    except OSError as error:
        return HostKey(path, problem=f"cannot read the SSH host key {path}: {error.strerror}")


def _can_be_made(path: Path) -> bool:
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


async def check_clock(around: Surroundings) -> Finding:
    """Check the clock: by the kernel's word, else by a time server, else by the CA's answers."""
    kept = clocks.kept_by_kernel()
    how, problem = around.inputs.how, "no time server is to be asked"
    if kept and not how.always:
        return clock.judge(clock.Clock(kept))
    if how.time_server:
        host, port = how.time_server
        try:
            return clock.judge(clock.Clock(kept, await _offset(around, host, port), host))
        except EXPECTED as error:
            problem = f"{host}: {trouble_of(error, around.limit).text}"
    if around.settings.acme:
        try:
            if (offset := await around.directory()) is not None:
                return clock.judge(clock.Clock(kept, offset, around.settings.acme))
        except EXPECTED as error:
            problem += f"; the CA: {trouble_of(error, around.limit).text}"
    return clock.judge(clock.Clock(kept, problem=problem))


async def _offset(around: Surroundings, host: str, port: int) -> float:
    found = await around.resolved(host)
    if not found.addresses:
        raise ValueError(found.problem)
    return await clocks.offset(found.addresses[0], port, around.limit)
