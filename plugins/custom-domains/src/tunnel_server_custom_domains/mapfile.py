"""The map file: which keys may have which host names, as the operator says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from tunnel_server_custom_domains.fingerprints import read_fingerprint
from tunnel_server_custom_domains.metrics import Metrics
from tunnel_server_custom_domains.names import Domain, normalised

MAX_FILE = 4 << 20  # octets
LOOK_EVERY = 2.0  # seconds; a stat costs nothing, and mounted files give no other sign everywhere

log = structlog.get_logger()


class BadMap(ValueError):
    """The map file cannot be used; the text names the line."""


@dataclass(frozen=True, slots=True)
class HostMap:
    """Fingerprints by host pattern. ``*.example.com`` stands for exactly one label, and for the wildcard itself."""

    keys: dict[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> HostMap:
        """Read lines of a pattern and its fingerprints, separated by blanks; ``#`` begins a comment.

        Raises:
            BadMap: a line is malformed.
        """
        keys: dict[str, frozenset[str]] = {}
        for number, line in enumerate(text.splitlines(), 1):
            words = line.partition("#")[0].split()
            if words:
                pattern = _pattern(words[0], number)
                keys[pattern] = keys.get(pattern, frozenset()) | _prints(words, number)
        return cls(keys)

    def allows(self, domain: Domain, fingerprint: str) -> bool:
        """Tell whether the map gives ``domain`` to the key."""
        return any(fingerprint in self.keys.get(name, ()) for name in _patterns_of(domain))


def _patterns_of(domain: Domain) -> tuple[str, ...]:
    if domain.wildcard:
        return (domain.name,)
    return (domain.host, "*." + domain.host.partition(".")[2])


def _pattern(word: str, number: int) -> str:
    wild = "*." if word.startswith("*.") else ""
    host = normalised(word.removeprefix(wild))
    if host is None or "." not in host:
        raise BadMap(f"line {number}: {word[:80]!r} is no whole host name")
    return wild + host


def _prints(words: list[str], number: int) -> frozenset[str]:
    found = frozenset(read_fingerprint(word) or _no_fingerprint(word, number) for word in words[1:])
    if not found:
        raise BadMap(f"line {number}: {words[0][:80]!r} has no fingerprint")
    return found


def _no_fingerprint(word: str, number: int) -> str:
    raise BadMap(f"line {number}: {word[:80]!r} is no fingerprint as ssh-keygen -lf prints it")


class MapFile:
    """A map file that is read again when it changes. One that cannot be used any more leaves the last map standing."""

    def __init__(self, path: Path, metrics: Metrics) -> None:
        self._path = path
        self._metrics = metrics
        self._seen: object = None
        self.map = HostMap()

    def load(self) -> None:
        """Read it for the first time; blocks.

        Raises:
            BadMap: it cannot be read or used.
        """
        self._seen = _signature(self._path)
        self.map = _read(self._path)

    async def watch(self, changed: Callable[[HostMap, HostMap], None]) -> None:
        """Tell ``changed`` the map before and the map after, whenever the file gives another. Never returns."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            await self.look(changed)

    async def look(self, changed: Callable[[HostMap, HostMap], None]) -> None:
        """Read the file again if it is not as it was."""
        seen = await asyncio.to_thread(_signature, self._path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            found = await asyncio.to_thread(_read, self._path)
        except BadMap as error:
            self._metrics.map_load("refused")
            log.error("custom-domains.map-refused", file=str(self._path), reason=str(error))
            return
        self._metrics.map_load("loaded")
        log.info("custom-domains.map-loaded", file=str(self._path), patterns=len(found.keys))
        before, self.map = self.map, found
        changed(before, found)


def _signature(path: Path) -> object:
    """Return what changes when the file does, also when it is replaced by another or a link on its path is."""
    try:
        found = path.stat()
    except OSError as error:
        return error.errno
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev


def _read(path: Path) -> HostMap:
    try:
        with path.open("rb") as file:
            octets = file.read(MAX_FILE + 1)
        if len(octets) > MAX_FILE:
            raise BadMap(f"it is larger than {MAX_FILE >> 20} MiB")
        return HostMap.parse(octets.decode("utf-8"))
    except OSError as error:
        raise BadMap(f"it cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadMap("it is not UTF-8") from None
