"""The server's host key: from the settings, from a file, or generated and kept there."""

from __future__ import annotations

import base64
import binascii
import errno
import os
from pathlib import Path

import asyncssh
import structlog

from tunnel_server.domain.errors import InvalidHostKey

DEFAULT = Path("ssh/ssh_host_key")  # in the working folder; where nobody says anything else

log = structlog.get_logger()


def load_host_key(path: Path, encoded: str | None) -> asyncssh.SSHKey:
    """Return the host key given as base64 of its text in ``encoded``, else the one in the file at ``path``.

    A file that does not exist is created with a new Ed25519 key and mode 0600, so that the
    server keeps its identity; its folders are made too. At the ``DEFAULT`` path, on a read-only file system, it is
    not kept.

    Raises:
        InvalidHostKey: naming what cannot be read, decoded or written.
    """
    if encoded:
        return _decode(encoded)
    try:
        return asyncssh.import_private_key(path.read_bytes())
    except FileNotFoundError:
        return _generate(path)
    except OSError as error:
        raise InvalidHostKey(f"cannot read the SSH host key {path}: {error.strerror}") from None
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise InvalidHostKey(f"{path} holds no usable SSH host key: {error}") from None


def _decode(encoded: str) -> asyncssh.SSHKey:
    packed = "".join(encoded.split())  # `base64` breaks lines, and some tools leave out the padding
    try:
        return asyncssh.import_private_key(base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True))
    except (binascii.Error, ValueError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise InvalidHostKey(f"SSH_HOST_KEY is not the base64 of a private key: {error}") from None


def _generate(path: Path) -> asyncssh.SSHKey:
    key = asyncssh.generate_private_key("ssh-ed25519", comment="tunnel-server host key")
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.export_private_key())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)  # not a rename: a key that another process just made there wins
        except FileExistsError:
            return asyncssh.import_private_key(path.read_bytes())
        finally:
            fresh.unlink()
    except OSError as error:
        # A container without a volume still serves. But who says where the key is has one, and means that one.
        if error.errno == errno.EROFS and path == DEFAULT:
            log.warning("host-key.not-kept", path=str(path), reason="the file system is read-only; it ends with us")
            return key
        raise InvalidHostKey(
            f"cannot keep a new SSH host key at {path}: {error.strerror}; "
            "give one in SSH_HOST_KEY, or a writable SSH_HOST_KEY_PATH"
        ) from None
    return key
