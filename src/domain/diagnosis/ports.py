"""What is on the server's own ports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import ip_address
from typing import assert_never

from tunnel_server.domain.diagnosis.finding import Finding, Verdict, failed, ok, skipped, warning


class Holder(Enum):
    """Who has a port. ``TAKEN`` is somebody's who does not answer at the address that was asked."""

    OURS = auto()
    OTHER = auto()
    FREE = auto()
    TAKEN = auto()
    FORBIDDEN = auto()
    NOT_HERE = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Listening:
    """A port as it was found. ``setting`` is the variable it is set by, ``host`` the one to listen on.

    ``identity`` is what tells one server from another there: its id, or the digest of its host key.
    """

    setting: str
    host: str
    port: int
    holder: Holder
    detail: str = ""
    identity: str = ""


def judge(found: Listening, runs: bool) -> Finding:
    """Judge one port; ``runs`` if this server was found on any."""
    at = f"{found.port}" if not found.host else f"{found.host} port {found.port}"
    same = (
        "give doctor the settings that the server has, the flags of `run` too; where systemd passes it sockets, set "
        f"{found.setting} to the port of that one"
    )
    if runs and found.holder in (Holder.FREE, Holder.FORBIDDEN, Holder.NOT_HERE):
        return warning(f"{at}: the server runs, but not here", same)
    where = "TUNNEL_SERVER_METRICS_HOST" if found.setting == "METRICS_PORT" else "TUNNEL_SERVER_LISTEN_HOST"
    match found.holder:
        case Holder.OURS:
            return ok(f"{at}: this server answers")
        case Holder.FREE:
            return ok(f"{at} is free: the server does not run, or not here")
        case Holder.UNKNOWN:
            return skipped(found.detail)
        case Holder.OTHER | Holder.TAKEN:
            return failed(
                f"{at}: {found.detail}",
                f"{same}. Otherwise "
                * runs
                + f"`ss -ltnp 'sport = :{found.port}'` as root names who has it: stop that, or set {found.setting} to "
                "another port",
            )
        case Holder.FORBIDDEN:
            return failed(
                f"{at}: {found.detail}",
                f"ports below 1024 need CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=): grant it, or set "
                f"{found.setting} to a higher port and forward this one to it",
            )
        case Holder.NOT_HERE:
            return failed(f"{at}: {found.detail}", f"set {where} to an address of this machine, or to none for all")
        case _:
            assert_never(found.holder)


def metrics(found: Listening, runs: bool, addresses: Iterable[str]) -> Finding:
    """Judge the metrics port; ``addresses`` are some that this machine has."""
    verdict = judge(found, runs)
    public = [address for address in addresses if ip_address(address).is_global]
    if verdict.verdict is Verdict.OK and public and found.host in ("", "0.0.0.0", "::", public[0]):
        return warning(
            f"{verdict.found}; it listens on {public[0]} too, where all the world may read client ids",
            "set TUNNEL_SERVER_METRICS_HOST=127.0.0.1 or a private address, or keep strangers out with a firewall",
        )
    return verdict
