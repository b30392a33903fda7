"""What is kept on disk: the account's key and address, and a certificate for each host. Files 0600, folders 0700.

<folder>/account/key.pem, account.json
<folder>/certificates/<host>/pair.pem    a digest, the key, the chain; a wildcard's folder begins with an underscore
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from tunnel_server.adapters.acme.pair import Pair, key_pem, new_key, read_key
from tunnel_server.domain.errors import InvalidSetting
from tunnel_server.domain.signable import unsignable

MAX_FILE = 256 * 1024  # octets
BROKEN = ".broken"

log = structlog.get_logger()


class Store:
    """Reads and writes whole files; one that is damaged is renamed, with ``.broken`` behind it, and taken for missing.

    Its methods block, and raise OSError where the disk does.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._account = folder / "account"
        self._certificates = folder / "certificates"

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            InvalidSetting: that is not possible.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self._account, self._certificates):
                folder.mkdir(exist_ok=True)
                folder.chmod(0o700)
        except OSError as error:
            raise InvalidSetting(f"cannot keep certificates in {self._folder}: {error.strerror or error}") from None

    def account_key(self) -> ec.EllipticCurvePrivateKey:
        """Return the account's key; a new one is made and kept where there is none."""
        path = self._account / "key.pem"
        content = _read(path)
        if content is not None:
            try:
                return read_key(content)
            except ValueError as error:
                _set_aside(path, error)
                (self._account / "account.json").unlink(missing_ok=True)
        key = new_key()
        _write(path, key_pem(key))
        return key

    def account(self, directory_url: str) -> str | None:
        """Return the account's URL, if it is registered with the server of this directory."""
        path = self._account / "account.json"
        content = _read(path)
        if content is None:
            return None
        try:
            known = json.loads(content)
            directory, uri = known["directory"], known["uri"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            _set_aside(path, error)
            return None
        return uri if directory == directory_url and isinstance(uri, str) and uri else None

    def keep_account(self, directory_url: str, uri: str) -> None:
        """Keep the account's URL with the server of this directory."""
        _write(self._account / "account.json", json.dumps({"directory": directory_url, "uri": uri}).encode())

    def hosts(self) -> list[str]:
        """Return the hosts that have a folder, sorted; folders of any other name are not looked at."""
        names = (name.replace("_", "*", 1) for name in os.listdir(self._certificates))
        return sorted(name for name in names if not unsignable(name, private_ca=True, dns=True))

    def load(self, host: str) -> Pair | None:
        """Return the certificate kept for ``host``, also one that has expired."""
        path = self._path(host)
        content = _read(path)
        if content is None:
            return None
        try:
            return Pair.from_file(host, content)
        except ValueError as error:
            _set_aside(path, error)
            return None

    def save(self, host: str, pair: Pair) -> None:
        """Keep a certificate in place of the one before."""
        path = self._path(host)
        path.parent.mkdir(exist_ok=True, mode=0o700)
        _write(path, pair.to_file())

    def drop(self, host: str) -> None:
        """Delete what is kept for ``host``."""
        path = self._path(host)
        for name in (path, path.with_name(path.name + BROKEN)):
            name.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # what others put there stays
            path.parent.rmdir()

    def _path(self, host: str) -> Path:
        # Any name that is signable somewhere is a plain file name, too: no slash, no dot at its beginning.
        if reason := unsignable(host, private_ca=True, dns=True):
            raise ValueError(f"{host!r} names no folder: {reason}")
        return self._certificates / host.replace("*", "_") / "pair.pem"


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write(path: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def _set_aside(path: Path, reason: Exception) -> None:
    log.warning("acme.set_aside", path=str(path), reason=str(reason))
    with contextlib.suppress(FileNotFoundError):
        path.replace(path.with_name(path.name + BROKEN))
