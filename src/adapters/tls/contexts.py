"""A certificate made ready to serve: checked, with the TLS context that presents it."""

from __future__ import annotations

import contextlib
import os
import ssl
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tunnel_server.adapters.tls.groups import limit_groups
from tunnel_server.adapters.tls.pem import Pem, parse
from tunnel_server.domain.errors import InvalidCertificate

ALPN = ("h2", "http/1.1", "ssh")

# Mozilla's intermediate profile without its finite-field exchanges, which cost the server many times as much. The
# client's order decides: one without AES instructions lists ChaCha20 first.
CIPHERS = "@SECLEVEL=2:ECDHE+AESGCM:ECDHE+CHACHA20"
TICKETS = 1  # a handshake; a browser that opens several connections has several handshakes


class ServerSideTls(ssl.SSLObject):
    """TLS on one connection. ``server_name`` is what the client asked for, normalised; ``certificate`` what it got."""

    server_name: str | None = None
    certificate: Certificate | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """A certificate that serves. Times in seconds of the epoch; ``source`` is what people know it by."""

    names: tuple[str, ...]
    context: ssl.SSLContext
    not_before: float
    not_after: float
    fingerprint: str  # SHA-256 of it, in hexadecimal
    source: str
    name_set: frozenset[str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """What all contexts share. ``key_log`` is a file that gets every connection's secrets, to debug with."""

    alpn: tuple[str, ...] = ALPN
    key_log: Path | None = None


def certificate_from(pem: Pem, options: TlsOptions) -> Certificate:
    """Return the certificate of ``pem``, ready to serve. Takes about a millisecond.

    Each has a context of its own, and so its own ticket keys: no session outlives its certificate, nor is resumed
    under another, which OpenSSL would allow among names of one context.

    Raises:
        InvalidCertificate: naming what cannot be used, and why.
    """
    leaf = parse(pem)
    context = server_context(options)
    try:
        with _as_file(leaf.normal) as path:
            context.load_cert_chain(path)
    except ssl.SSLError as error:
        raise InvalidCertificate(f"{pem.chain_name}: OpenSSL refuses it: {error.reason or error}") from None
    return Certificate(
        leaf.names, context, leaf.not_before, leaf.not_after, leaf.fingerprint, pem.source, frozenset(leaf.names)
    )


def server_context(options: TlsOptions) -> ssl.SSLContext:
    """Return a context of Mozilla's intermediate profile, without a certificate: TLS 1.2 and 1.3, both resumable.

    Raises:
        InvalidCertificate: the key log cannot be written.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = ServerSideTls
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(options.alpn)
    context.num_tickets = TICKETS
    limit_groups(context)
    if options.key_log is not None:
        _log_keys(context, options.key_log)
    return context


def _log_keys(context: ssl.SSLContext, file: Path) -> None:
    try:
        with open(file, "ab", opener=_private) as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise InvalidCertificate(f"cannot write the key log {file}: not a file")
            context.keylog_filename = str(file)
    except OSError as error:
        raise InvalidCertificate(f"cannot write the key log {file}: {error.strerror}") from None


def _private(path: str, flags: int) -> int:
    # a pipe that nobody reads would hold up the start, and one that fills up every handshake
    return os.open(path, flags | os.O_NONBLOCK, 0o600)


@contextlib.contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """Give ``data`` as a file, since OpenSSL is handed keys as such only; in memory wherever the system can."""
    descriptor = _in_memory(data)
    if descriptor is not None:
        try:
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        yield file.name


def _in_memory(data: bytes) -> int | None:
    if not hasattr(os, "memfd_create"):
        return None
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        descriptor = os.memfd_create("certificate")
        if os.path.exists(f"/proc/self/fd/{descriptor}") and os.write(descriptor, data) == len(data):
            return descriptor
        os.close(descriptor)
    return None
