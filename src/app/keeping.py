"""What a server has to keep, and what of it would not outlive this container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tunnel_server.domain.storage import lost_with

if TYPE_CHECKING:
    from tunnel_server.app.settings import Settings

MOUNTS = Path("/proc/self/mountinfo")
SIGNS = (Path("/.dockerenv"), Path("/run/.containerenv"))  # of Docker and podman


def kept(settings: Settings) -> Iterator[tuple[str, Path, str]]:
    """Yield what is kept in files, where, and what its loss means to others."""
    if not settings.ssh_host_key:
        path = Path(settings.ssh_host_key_path)
        yield "SSH host key", path, "clients that know the old one will refuse to connect"
    if settings.acme:
        folder = Path(settings.acme_folder)
        yield "ACME account and certificates", folder, "every start orders all anew, and the CA limits how often"
    if settings.dev_tls:
        yield "CA for development", Path(settings.dev_tls_folder), "browsers have to be told of a new one"


def passing(settings: Settings) -> Iterator[tuple[str, Path, str, str]]:
    """Yield of what is kept that which will be lost: what, where, with what, and what that means. None on a machine
    that has no list of mounts."""
    for what, path, meaning in kept(settings):
        if lost := goes_with(path):
            yield what, path, lost, meaning


def goes_with(path: Path) -> str:
    """Return what ``path`` goes away with; empty if it is kept, or nothing is known of it."""
    try:
        in_container = any(sign.exists() for sign in SIGNS)
        return lost_with(MOUNTS.read_text(errors="replace"), str(path.resolve()), in_container)
    except OSError:
        return ""
