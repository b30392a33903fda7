"""The documents on disk, so that a server that starts during an outage knows its clients."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkstemp
from typing import Any

from tunnel_server_github_keys.library import Document

FORM = 1  # of the file
MAX_FILE = 64 * 1024 * 1024  # bytes


class BadCache(Exception):
    """The file cannot be used; the text says why."""


def load(path: Path) -> dict[str, Document]:
    """Return what was kept; nothing if there is no file. Blocks.

    Raises:
        BadCache: it cannot be read, is damaged, or others may write to it, who could add keys.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE:
                raise BadCache("it is no file of a size that can be right")
            if status.st_mode & 0o022 or status.st_uid not in (0, os.geteuid()):
                raise BadCache("others than this server's user may write to it")
            kept = json.load(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadCache(error.strerror or str(error)) from None
    except (ValueError, RecursionError):
        raise BadCache("it is damaged") from None
    return _documents(kept, time.time())


def save(path: Path, documents: Mapping[str, Document]) -> None:
    """Keep ``documents`` in a file of mode 0600, written whole or not at all. Blocks.

    Raises:
        OSError: it cannot be written.
    """
    entries = {url: [d.at, d.items, d.etag, d.more] for url, d in documents.items()}
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, fresh = mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            json.dump({"form": FORM, "documents": entries}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise


def _documents(kept: Any, now: float) -> dict[str, Document]:
    if not isinstance(kept, dict) or kept.get("form") != FORM or not isinstance(kept.get("documents"), dict):
        raise BadCache("it is of another form")
    return {url: _document(entry, now) for url, entry in kept["documents"].items()}


def _document(entry: Any, now: float) -> Document:
    match entry:
        case [int() | float() as at, list() as items, str() as etag, bool() as more] if all(
            isinstance(item, str) for item in items
        ):
            return Document(min(float(at), now), tuple(items), etag, more)  # not newer than now, or it would stay
    raise BadCache("an entry is damaged")
