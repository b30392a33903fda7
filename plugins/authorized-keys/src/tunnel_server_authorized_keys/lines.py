"""One line of a file, and all lines of several."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType

import asyncssh

from tunnel_server_authorized_keys.options import Options, read_options

MAX_LINE = 64 * 1024  # characters; a key of 16,384 bits has under 3,000
MAX_LINES = 200_000  # of all files together
MAX_COMMENT = 200  # characters that are kept

_TYPES = frozenset(
    {
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)


@dataclass(frozen=True, slots=True)
class Line:
    """A key and what it may do. ``key`` is in SSH wire format; ``where`` is the file's name and the line's number."""

    where: str
    key: bytes
    options: Options
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """A line that is not in force, and why."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Book:
    """Every line in force, in the order of the files. Authorities are found by fingerprint, all others by key."""

    keys: Mapping[bytes, Sequence[Line]]
    authorities: Mapping[str, Sequence[Line]]
    refused: tuple[Refused, ...] = ()

    @property
    def lines(self) -> int:
        """How many lines are in force."""
        return sum(map(len, (*self.keys.values(), *self.authorities.values())))

    def next_expiry(self, now: float) -> float:
        """Return when the next line expires, in seconds since the epoch; infinite if none does."""
        every = (line for lines in (*self.keys.values(), *self.authorities.values()) for line in lines)
        return min((line.options.expires_at for line in every if line.options.expires_at > now), default=float("inf"))


EMPTY = Book(MappingProxyType({}), MappingProxyType({}))


def read_book(texts: Mapping[str, bytes]) -> Book:
    """Return what the files say; ``texts`` holds their contents by name. Blocks: up to a second for 20,000 lines."""
    keys: dict[bytes, list[Line]] = {}
    authorities: dict[str, list[Line]] = {}
    refused: list[Refused] = []
    for count, (where, text) in enumerate(_numbered(texts)):
        try:
            if count >= MAX_LINES:
                raise ValueError(f"there are more than {MAX_LINES} lines")
            line = read_line(text, where)
        except ValueError as error:
            refused.append(Refused(where, str(error)))
            if count >= MAX_LINES:
                break
            continue
        if line is None:
            continue
        if line.options.authority:
            authorities.setdefault(fingerprint(line.key), []).append(line)
        else:
            keys.setdefault(line.key, []).append(line)
    return Book(keys, authorities, tuple(refused))


def read_line(text: str, where: str) -> Line | None:
    """Return what a line says; ``None`` for a comment and an empty one.

    Raises:
        ValueError: saying why the line cannot be in force.
    """
    text = text.strip(" \t\r")
    if not text or text.startswith("#"):
        return None
    if len(text) > MAX_LINE:
        raise ValueError(f"the line is longer than {MAX_LINE} characters")
    if any(ord(character) < 32 and character != "\t" for character in text):
        raise ValueError("the line has control characters")
    options, rest = (Options(), text) if text.split()[0] in _TYPES else read_options(text)
    kind, encoded, comment = (*rest.split(None, 2), "", "", "")[:3]
    return Line(where, _key(kind, encoded), options, comment[:MAX_COMMENT])


def fingerprint(key: bytes) -> str:
    """Return a key's fingerprint as ssh-keygen(1) shows it: ``SHA256:…``."""
    return "SHA256:" + base64.b64encode(sha256(key).digest()).rstrip(b"=").decode("ascii")


def _key(kind: str, encoded: str) -> bytes:
    if not kind:
        raise ValueError("there is no key behind the options")
    if kind not in _TYPES:
        raise ValueError(f"{kind[:60]!r} is neither an option nor a type of key that is served")
    try:
        blob = base64.b64decode(encoded, validate=True)
        key = asyncssh.import_public_key(f"{kind} {encoded}")
    except (binascii.Error, ValueError, asyncssh.KeyImportError):
        raise ValueError(f"the {kind} key is malformed or cut short") from None
    if key.public_data != blob:
        raise ValueError(f"the {kind} key is not in its canonical form")
    return blob


def _numbered(texts: Mapping[str, bytes]) -> Iterable[tuple[str, str]]:
    for name, octets in texts.items():
        for number, line in enumerate(octets.split(b"\n"), 1):
            yield f"{name}:{number}", line.decode("utf-8", "replace")
