"""Which folders outlive a container, read from Linux' list of mounts (proc(5), mountinfo)."""

from __future__ import annotations

import re
from typing import NamedTuple

_ESCAPED = re.compile(r"\\([0-7]{3})")  # how blanks and backslashes are written there
_ANONYMOUS = re.compile(r"/volumes/[0-9a-f]{64}/_data(/|$)")  # Docker's and podman's names of volumes without one
_EMPTY_DIR = "/volumes/kubernetes.io~empty-dir/"
_LAYERS = ("overlay", "fuse.fuse-overlayfs", "aufs")
_MEMORY = ("tmpfs", "ramfs")


def lost_with(mountinfo: str, path: str, in_container: bool = False) -> str:
    """Return what ``path``, which is absolute, goes away with; empty if it is kept, or nothing is known of it.

    Where it is known that this is a container, its root file system is its own, of whatever kind.
    What cannot be written came from elsewhere, as a Secret does, and so is kept there.
    """
    best = _Mount("", "", "", "")
    for line in mountinfo.splitlines():
        mount = _read(line)
        # Of two at one place the later one hides the earlier.
        if mount is not None and _below(path, mount.point) and len(mount.point) >= len(best.point):
            best = mount
    if "ro" in best.options.split(","):
        return ""
    if _ANONYMOUS.search(best.root):
        return "this container: its volume has no name"
    if _EMPTY_DIR in best.root:
        return "this pod: its volume is an emptyDir"
    if best.point == "/" and (in_container or best.kind in _LAYERS):
        return "this container: there is no volume"
    return "the memory of this machine or container" if best.kind in _MEMORY else ""


class _Mount(NamedTuple):
    root: str
    point: str
    options: str
    kind: str


def _read(line: str) -> _Mount | None:
    mount, _, source = line.partition(" - ")
    fields = mount.split(" ")
    if len(fields) < 6:
        return None
    root, point = (_ESCAPED.sub(lambda code: chr(int(code[1], 8)), field) for field in fields[3:5])
    return _Mount(root, point, fields[5], source.partition(" ")[0])


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
