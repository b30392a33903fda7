"""The server's host key: from the settings, from a file, or generated and kept there."""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import os
import stat
import tempfile
from pathlib import Path

import asyncssh
import structlog

from tunnel_server.domain.errors import InvalidHostKey

DEFAULT = Path("ssh/ssh_host_key")  # in the working folder; where nobody says anything else

MAX_SIZE = 64 * 1024  # octets; a key has a few thousand
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)  # of file systems that have none, such as SMB's

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
        return asyncssh.import_private_key(_read(path))
    except FileNotFoundError:
        return _generate(path)
    except OSError as error:
        raise InvalidHostKey(f"cannot read the SSH host key {path}: {_reason(error)}") from None
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise InvalidHostKey(f"{path} holds no usable SSH host key: {error}") from None


def _decode(encoded: str) -> asyncssh.SSHKey:
    packed = "".join(encoded.split())  # `base64` breaks lines, and some tools leave out the padding
    try:
        return asyncssh.import_private_key(base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True))
    except (binascii.Error, ValueError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise InvalidHostKey(f"SSH_HOST_KEY is not the base64 of a private key: {error}") from None


def _reason(error: OSError) -> str:
    who = f" to user {os.geteuid()}, group {os.getegid()}" if isinstance(error, PermissionError) else ""
    return f"{error.strerror}{who}"


def _read(path: Path) -> bytes:
    """Return what is in a file; a pipe that nobody writes to keeps nobody waiting, and a device fills no memory."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        return file.read(MAX_SIZE)


def _generate(path: Path) -> asyncssh.SSHKey:
    key = asyncssh.generate_private_key("ssh-ed25519", comment="tunnel-server host key")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A name of its own, whatever another process or an earlier one, which was killed, may have left there.
        descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(key.export_private_key())
                file.flush()
                os.fsync(file.fileno())
            _put(fresh, path)
        except FileExistsError:
            return asyncssh.import_private_key(path.read_bytes())
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)
    except OSError as error:
        # A container without a volume still serves. But who says where the key is has one, and means that one.
        if error.errno == errno.EROFS and path == DEFAULT:
            log.warning("host-key.not-kept", path=str(path), reason="the file system is read-only; it ends with us")
            return key
        raise InvalidHostKey(
            f"there is no SSH host key at {path.absolute()}, and a new one cannot be kept there: {_reason(error)}; put "
            "yours there, give it in SSH_HOST_KEY, or let the server write there"
        ) from None
    log.info("host-key.made", path=str(path.absolute()), fingerprint=key.get_fingerprint())
    return key


def _put(fresh: str, path: Path) -> None:
    """Give the file its name, unless another process just has."""
    try:
        os.link(fresh, path)  # not a rename: the key that is there wins
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if path.exists():
            raise FileExistsError from None
        os.rename(fresh, path)
