"""Whether the server keeps its identity to SSH clients."""

from __future__ import annotations

from dataclasses import dataclass

from tunnel_server.domain.diagnosis.finding import Finding, failed, ok, warning

CHANGED = "clients that know the old one refuse to connect"


MOUNT = (
    "mount a named volume or a folder of the host at its folder (`docker run -v tunnel-server:/data`; in Kubernetes a "
    "Secret or a PersistentVolumeClaim)"
)


@dataclass(frozen=True, slots=True)
class HostKey:
    """The key that is configured. ``path`` is empty for one given as text, ``fingerprint`` for one not made yet.

    ``open_to_all`` if others than its owner and group may read the file; ``writable`` if one can be made there;
    ``lost_with`` is what the file goes away with, empty if it is kept.
    """

    path: str
    fingerprint: str = ""
    problem: str = ""
    open_to_all: bool = False
    writable: bool = True
    lost_with: str = ""


def judge(found: HostKey, served: str) -> Finding:
    """Judge the key; ``served`` is the fingerprint of the one that the server shows now, empty if it does not run."""
    if found.problem:
        return failed(
            found.problem,
            "give an unencrypted private key that the server's user may read, made by "
            "`ssh-keygen -t ed25519 -N '' -f KEY`, as SSH_HOST_KEY_PATH or, in base64, as SSH_HOST_KEY",
        )
    if not found.fingerprint and (served or not found.writable):
        return _none(found, served)
    if served and found.fingerprint != served:
        return failed(
            f"{found.path or 'SSH_HOST_KEY'} has {found.fingerprint}, but the server shows {served}",
            f"run doctor with the server's own settings; if these are, the key was changed since the start: put the "
            f"old one back before the next, for {CHANGED}",
        )
    return _kept(found)


def _none(found: HostKey, served: str) -> Finding:
    if served:
        return failed(
            f"the server shows {served}, but there is no file {found.path}",
            f"run doctor with the server's own settings and in its folder; if these are, the next start makes another "
            f"key, and {CHANGED}: set SSH_HOST_KEY_PATH to a file that stays",
        )
    return failed(
        f"there is no file {found.path}, and none can be made",
        "set SSH_HOST_KEY_PATH to a file in a folder that the server's user may write to, or give the key in "
        "SSH_HOST_KEY",
    )


def _kept(found: HostKey) -> Finding:
    shown = f"{found.path or 'SSH_HOST_KEY'} {found.fingerprint}" if found.fingerprint else f"{found.path} will be made"
    if found.lost_with:
        return warning(f"{shown}; it is lost with {found.lost_with}, and {CHANGED}", MOUNT)
    if found.open_to_all:
        return warning(f"{shown}; every user may read it", f"chmod 600 {found.path} (of a Secret: defaultMode: 0400)")
    return ok(shown)
