"""Where certificates and their keys come from: files, a folder of files, text."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from tunnel_server.adapters.tls.pem import Pem
from tunnel_server.domain.errors import InvalidCertificate

MAX_SIZE = 1 << 20  # octets of one file
MAX_PAIRS = 10_000  # in the folder
_AUTHORITY = "ca"  # cert-manager puts its authority's certificate, ca.crt, beside tls.crt and tls.key


@dataclass(frozen=True, slots=True)
class Sources:
    """What was configured. A text stands before a file; ``directory`` holds pairs such as tls.crt and tls.key."""

    cert_file: Path | None = None
    key_file: Path | None = None
    cert_text: str | None = field(default=None, repr=False)
    key_text: str | None = field(default=None, repr=False)
    directory: Path | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A chain and its key, each a file or a text. A ``stray`` one is a key beside which no certificate lies."""

    source: str
    chain: Path | bytes
    key: Path | bytes = field(repr=False)
    stray: bool = False

    def look(self) -> tuple[Look, Look]:
        """Return what tells whether the files are the same as at another look; never fails."""
        return _look(self.chain), _look(self.key)

    def read(self) -> Pem:
        """Read both.

        Raises:
            InvalidCertificate: naming the file that is missing, unreadable, no file, or too large.
        """
        chain, key = _read(self.chain, "the certificate"), _read(self.key, "the key of a certificate")
        return Pem(self.source, chain, key, _name(self.chain, "TLS_CERT"), _name(self.key, "TLS_KEY"))


@dataclass(frozen=True, slots=True)
class Look:
    """Which file a path leads to in the end, whatever links are on it, and the file's state.

    ``changed`` is its last change, in seconds of the epoch.
    """

    identity: tuple[str | int, ...]
    changed: float


def pairs_in(folder: Path | None) -> list[Pair]:
    """Return the pairs that are in the folder now, by name.

    Raises:
        InvalidCertificate: it cannot be listed, or holds too many.
    """
    if folder is None:
        return []
    try:
        names = {name for name in os.listdir(folder) if not name.startswith(".")}
    except OSError as error:
        raise InvalidCertificate(f"cannot list the folder of certificates {folder}: {error.strerror}") from None
    chains = {name.removesuffix(".crt") for name in names if name.endswith(".crt")}
    keys = {name.removesuffix(".key") for name in names if name.endswith(".key")}
    if _AUTHORITY not in keys:
        chains.discard(_AUTHORITY)
    if len(chains | keys) > MAX_PAIRS:
        raise InvalidCertificate(f"the folder of certificates {folder} holds more than {MAX_PAIRS} pairs")
    return [
        Pair(str(folder / f"{stem}.crt"), folder / f"{stem}.crt", folder / f"{stem}.key", stem not in chains)
        for stem in sorted(chains | keys)
    ]


def configured_pairs(sources: Sources) -> list[Pair]:
    """Return the pair that is configured as files or texts, if there is one.

    Raises:
        InvalidCertificate: one half is configured without the other.
    """
    chain = _part(sources.cert_text, sources.cert_file)
    key = _part(sources.key_text, sources.key_file)
    if chain is not None and key is not None:
        return [Pair(_name(chain, "TLS_CERT"), chain, key)]
    if chain is not None:
        raise InvalidCertificate(f"the certificate {_name(chain, 'TLS_CERT')} needs a key: TLS_KEY_FILE or TLS_KEY")
    if key is not None:
        raise InvalidCertificate(f"the key {_name(key, 'TLS_KEY')} needs a certificate: TLS_CERT_FILE or TLS_CERT")
    return []


def _part(text: str | None, file: Path | None) -> Path | bytes | None:
    return file if text is None else text.encode("utf-8", "replace")


def _name(part: Path | bytes, variable: str) -> str:
    return str(part) if isinstance(part, Path) else variable


def _look(part: Path | bytes) -> Look:
    if isinstance(part, bytes):
        return Look((), 0.0)
    try:
        found = os.stat(part)
        identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    except (OSError, ValueError) as error:
        return Look((str(error),), 0.0)
    return Look(identity, max(found.st_mtime, found.st_ctime))


def _read(part: Path | bytes, what: str) -> bytes:
    if isinstance(part, bytes):
        return part
    try:
        # not to be kept waiting by a pipe that nobody writes to
        with open(part, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidCertificate(f"cannot read {what} {part}: not a file")
            data = file.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        who = f" to user {os.geteuid()}, group {os.getegid()}" if isinstance(error, PermissionError) else ""
        raise InvalidCertificate(f"cannot read {what} {part}: {reason}{who}") from None
    if len(data) > MAX_SIZE:
        raise InvalidCertificate(f"cannot read {what} {part}: larger than {MAX_SIZE} octets")
    return data
