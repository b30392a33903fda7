"""Which protocol a connection to the TLS port speaks, by the first thing its peer says."""

from __future__ import annotations

import re
from enum import Enum, auto

SILENT_IS_SSH = 2.0  # seconds; RFC 4253 §4.2 lets a client wait for the server's version before it sends its own

_SSH = b"SSH-"
_METHOD = re.compile(rb"[A-Z]{1,20}\Z")
_REQUEST = re.compile(rb"[A-Z]{1,20} [^ ]")
_PREFACE = b"PRI * HTTP/2"  # RFC 9113 §3.4: HTTP/2 without TLS, which is not offered


class Spoken(Enum):
    """What the first bytes of a connection say."""

    UNCLEAR = auto()  # it takes more of them to tell
    TLS = auto()
    SSH = auto()
    HTTP = auto()
    NOTHING_KNOWN = auto()


class Inside(Enum):
    """What is spoken inside TLS."""

    SSH = auto()
    HTTP = auto()
    HTTP2 = auto()
    UNSAID = auto()  # its first bytes have to tell


def spoken(first: bytes) -> Spoken:
    """Return what ``first``, the beginning of a connection, says; at most 21 octets are needed to tell.

    A TLS record of a handshake begins with 22 and a version 3.x (RFC 8446 §5.1), an SSH client with ``SSH-``
    (RFC 4253 §4.2), a request with a method in capitals.
    """
    if not first:
        return Spoken.UNCLEAR
    if first[0] == 22:
        return Spoken.TLS if first[1:2] in (b"", b"\x03") else Spoken.NOTHING_KNOWN
    if first.startswith(_SSH):
        return Spoken.SSH
    if first.startswith(_PREFACE):
        return Spoken.NOTHING_KNOWN
    if _SSH.startswith(first) or _PREFACE.startswith(first) or _METHOD.match(first):
        return Spoken.UNCLEAR
    return Spoken.HTTP if _REQUEST.match(first) or _METHOD.match(first.removesuffix(b" ")) else Spoken.NOTHING_KNOWN


def inside(alpn: str | None) -> Inside:
    """Return what a client speaks once TLS is up, by what it negotiated."""
    match alpn:
        case "ssh":
            return Inside.SSH
        case "h2":
            return Inside.HTTP2
        case None:
            return Inside.UNSAID
        case _:
            return Inside.HTTP


def unsaid(first: bytes, silent: bool, server_name: str | None, ssh_names: frozenset[str]) -> Inside:
    """Return what a client speaks that negotiated nothing, by the ``first`` bytes it sent inside TLS.

    If they do not tell, or it stays ``silent``, a server name (in lower case) of ``ssh_names`` means SSH: an SSH client
    may wait for us, one of HTTP never does.
    """
    match spoken(first):
        case Spoken.SSH:
            return Inside.SSH
        case Spoken.HTTP:
            return Inside.HTTP
        case Spoken.UNCLEAR if not silent:
            return Inside.UNSAID
        case _:
            return Inside.SSH if server_name in ssh_names else Inside.HTTP
