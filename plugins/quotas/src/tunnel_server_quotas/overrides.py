"""Other limits for certain keys: what the exceptions file says."""

from __future__ import annotations

import base64
import hashlib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunnel_server_quotas.limits import Limits
from tunnel_server_quotas.settings import LIMITS

if TYPE_CHECKING:
    from tunnel_server import Client

MAX_SIZE = 1 << 20  # octets of the file

_KEY = re.compile(
    r"SHA256:[A-Za-z0-9+/]{43}"  # as ssh-keygen -l prints it
    r"|urn:ietf:params:oauth:jwk-thumbprint:sha-256:[A-Za-z0-9_-]{43}"
    r"|[a-z0-9]{1,8}"  # a client id
)
_READERS = {setting.name: setting.read for setting in LIMITS}

_Values = Mapping[str, Any]


class Overrides:
    """Finds the limits of a client: those of its fingerprint, else of its thumbprint, else of its id, else the usual.

    What the file does not name is as usual. ``version`` changes whenever an answer may.
    """

    def __init__(self, usual: _Values, path: Path | None) -> None:
        self._usual = usual
        self._path = path
        self._usual_limits = Limits.of(usual)
        self._by_key: dict[str, Limits] = {}
        self._seen: tuple[int, ...] | None = None
        self.version = 0

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def may_change(self) -> bool:
        """Whether there is a file."""
        return self._path is not None

    def of(self, client: Client) -> Limits:
        """Return the limits of a client."""
        if self._by_key:
            for key in (fingerprint(client.public_key), str(client.thumbprint), str(client.id)):
                if key in self._by_key:
                    return self._by_key[key]
        return self._usual_limits

    def load(self) -> bool:
        """Read the file if it is another than at the last call; return whether it was.

        For use by a thread, too. A file that cannot be read changes nothing, and is told of once for each change.

        Raises:
            OSError: it cannot be read.
            ValueError: it is malformed; the text says where.
        """
        if self._path is None:
            return False
        before, self._seen = self._seen, _look(self._path)
        if self._seen == before:
            return False
        self._by_key = self._read(self._path)
        self.version += 1
        return True

    def _read(self, path: Path) -> dict[str, Limits]:
        with path.open("rb") as file:
            octets = file.read(MAX_SIZE + 1)
        try:
            return {key: self._limits(key, table) for key, table in _tables(octets).items()}
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the exceptions file {path}: {_short(error)}") from None

    def _limits(self, key: str, table: object) -> Limits:
        if _KEY.fullmatch(key) is None:
            raise ValueError(f"{key[:80]!r} is no fingerprint (SHA256:…), thumbprint (urn:…) or client id")
        if not isinstance(table, dict):
            raise ValueError(f"{key} is not a table")
        return Limits.of({**self._usual, **{name: _value(key, name, value) for name, value in table.items()}})


def fingerprint(public_key: bytes) -> str:
    """Return a key's fingerprint as OpenSSH prints it; the key is in SSH wire format."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(public_key).digest()).rstrip(b"=").decode("ascii")


def _look(path: Path) -> tuple[int, ...]:
    """Return what tells one state of a file from another; nothing if it cannot be looked at."""
    try:
        stat = path.stat()
    except OSError:
        return ()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _tables(octets: bytes) -> dict[str, Any]:
    if len(octets) > MAX_SIZE:
        raise ValueError(f"it has more than {MAX_SIZE} octets")
    return tomllib.loads(octets.decode("utf-8"))


def _value(key: str, name: str, value: object) -> Any:
    if name not in _READERS:
        raise ValueError(f"{key} has {name[:80]!r}, which is not one of {', '.join(_READERS)}")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{name} of {key} is neither a number nor a text")
    try:
        return _READERS[name](str(value))
    except ValueError as error:
        raise ValueError(f"{name} of {key} {error}") from None


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
