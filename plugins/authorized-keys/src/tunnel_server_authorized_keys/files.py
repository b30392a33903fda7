"""Reading the files, again and again, and telling what has changed for good."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MAX_FILE = 16 * 1024 * 1024  # bytes
MAX_FILES = 1000  # in a directory
MAX_LOOKS = 10  # looks after which files that never come to rest are taken as they are
RACY = 2.0  # seconds within which a second change may leave a file's times as they are


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found: the contents of files by name, and why others could not be read.

    The name ``""`` stands for the whole path.
    """

    texts: Mapping[str, bytes] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)

    def over(self, before: Look) -> Look:
        """Return this look with what could not be read as it was ``before``."""
        if "" in self.failures:
            return Look(before.texts, self.failures)
        kept = {name: before.texts[name] for name in self.failures if name in before.texts}
        return Look(dict(sorted({**self.texts, **kept}.items())), self.failures)


class KeyFiles:
    """A file, or all files of a directory but hidden ones and those that end in ``~``; links are followed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: dict[str, tuple[tuple[int, ...], float, bytes]] = {}

    def look(self) -> Look:
        """Return what is there now. Blocks; only files whose status changed are read again."""
        try:
            if stat.S_ISDIR(os.stat(self._path).st_mode):
                names = sorted(name for name in os.listdir(self._path) if not name.startswith(".") and name[-1] != "~")
                return self._look(self._path, names)
        except OSError as error:
            return Look(failures={"": error.strerror or "it cannot be read"})
        look = self._look(self._path.parent, [self._path.name])
        return look if look.texts else Look(failures={"": next(iter(look.failures.values()), "it is no file")})

    def _look(self, folder: Path, names: list[str]) -> Look:
        if len(names) > MAX_FILES:
            return Look(failures={"": f"it has more than {MAX_FILES} files"})
        texts: dict[str, bytes] = {}
        failures: dict[str, str] = {}
        for name in names:
            try:
                text = self._text(name, folder / name)
                if text is not None:
                    texts[name] = text
            except OSError as error:
                failures[name] = error.strerror or str(error)
        self._read = {name: read for name, read in self._read.items() if name in texts}
        return Look(texts, failures)

    def _text(self, name: str, path: Path) -> bytes | None:
        """Return a file's content; ``None`` if it is a directory.

        Raises:
            OSError: it cannot be read, is too large, or is neither file nor directory.
        """
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            return None
        known = self._read.get(name)
        if known is not None and known[0] == _identity(status) and known[1] - status.st_mtime > RACY:
            return known[2]
        read_at = time.time()
        identity, text = _content(path)
        if known is not None and known[2] == text:
            text = known[2]
        self._read[name] = identity, read_at, text
        return text


class Rest:
    """Holds a change back until two looks in a row agree: an editor empties a file before it writes it.

    ``applied`` is the last one that was let through.
    """

    def __init__(self, applied: Look) -> None:
        self.applied = applied
        self._last = applied
        self._waiting = 0

    def settled(self, look: Look) -> Look | None:
        """Return the look to apply now, with the last good state of what cannot be read; ``None`` if there is none."""
        before, self._last = self._last, look
        if look.over(self.applied).texts == self.applied.texts:
            self._waiting = 0
            return None
        self._waiting += 1
        if look != before and self._waiting < MAX_LOOKS:
            return None
        self._waiting = 0
        self.applied = look.over(self.applied)
        return self.applied


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _content(path: Path) -> tuple[tuple[int, ...], bytes]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # not to wait for a pipe's other end
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a file")
        text = file.read(MAX_FILE + 1)
    if len(text) > MAX_FILE:
        raise OSError(f"it is larger than {MAX_FILE} bytes")
    return _identity(status), text
