"""Which folders outlive a container, read from Linux' list of mounts (proc(5), mountinfo)."""

from __future__ import annotations

import re

_ESCAPED = re.compile(r"\\([0-7]{3})")  # how blanks and backslashes are written there
_ANONYMOUS = re.compile(r"/volumes/[0-9a-f]{64}/_data(/|$)")  # Docker's and podman's names of volumes without one
_EMPTY_DIR = "/volumes/kubernetes.io~empty-dir/"
_LAYERS = ("overlay", "fuse.fuse-overlayfs", "aufs")
_MEMORY = ("tmpfs", "ramfs")


def lost_with(mountinfo: str, path: str) -> str | None:
    """Return what ``path``, which is absolute, goes away with; ``None`` if it is kept, or nothing is known of it."""
    best: tuple[str, str, str] | None = None
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        fields, kind = mount.split(" "), source.partition(" ")[0]
        if len(fields) < 5:
            continue
        root, point = (_ESCAPED.sub(lambda code: chr(int(code[1], 8)), field) for field in fields[3:5])
        # Of two at one place the later one hides the earlier.
        if _below(path, point) and (best is None or len(point) >= len(best[1])):
            best = root, point, kind
    if best is None:
        return None
    root, _, kind = best
    if _ANONYMOUS.search(root):
        return "this container: its volume has no name"
    if _EMPTY_DIR in root:
        return "this pod: its volume is an emptyDir"
    if kind in _LAYERS:
        return "this container: there is no volume"
    return "this machine's memory" if kind in _MEMORY else None


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
