"""How many connections fit into the files that the system lets a process open."""

from __future__ import annotations

import contextlib
import resource
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from tunnel_server.app.settings import Settings

RESERVE = 64  # files that are no connections: listeners, certificates, the log, what plugins open
# Of the rest; what is left over is for SSH clients that have logged in.
SHARES = {"max_visitors": 0.65, "max_handshakes": 0.15, "max_unauthenticated": 0.1}

log = structlog.get_logger()


def raise_file_limit() -> int:
    """Take as many open files as the system lets us, and return that number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    now = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if now == resource.RLIM_INFINITY else now


def fitting(settings: Settings, files: int) -> Settings:
    """Return the settings with limits of connections that ``files`` allow, and say which were lowered.

    Without that the system would refuse connections, and whoever has most of them would keep all others out.
    """
    room = max(files - RESERVE, 0)
    allowed = {name: max(int(room * share), 1) for name, share in SHARES.items()}
    lowered = {name: number for name, number in allowed.items() if number < getattr(settings, name)}
    if not lowered:
        return settings
    log.warning("server.few-files", open_files=files, remedy="raise the limit of open files (nofile)", **lowered)
    return replace(settings, **lowered)  # type: ignore[arg-type] # all are counts
