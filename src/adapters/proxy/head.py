"""Reading message heads, strictly: what two parsers could read differently is refused (RFC 9112).

One regular expression finds all fields in one pass. It is linear: every repetition is possessive,
and each field starts at a line's start. Equal counts of fields and of line feeds prove that every
line was one well-formed field, so bare LF, folded lines, spaces before a colon and control
characters all fail the same comparison.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tunnel_server.domain.forwarding import NOT_REMOVABLE, VISITOR_FIELDS, Field

END = b"\r\n\r\n"
CHUNKED = -1  # as a length: the body comes in chunks
UNTIL_CLOSE = -2  # as a length: the body ends with the connection; answers only

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21\x22\x24-\x7e]++) HTTP/([0-9])\.([0-9])\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*+))?\r\n")
_FIELD = re.compile(rb"(?m)^(" + _TOKEN + rb"):([\t\x20-\x7e\x80-\xff]*+)\r\n")
_HOST = re.compile(rb"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#@]*)(.*)", re.DOTALL)
_LENGTH = re.compile(rb"[0-9]{1,18}")
_BARE_LF = re.compile(rb"(?<!\r)\n")

_UPGRADES = frozenset({b"websocket", b"tcp"})


class BadMessage(Exception):
    """A message that is not read further. ``status`` is the answer to a request that is bad so."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


@dataclass(slots=True)
class RequestHead:
    """A request's head. ``path`` is in origin-form, or ``*``; ``fields`` are those to pass on.

    ``length`` is the body's in bytes, 0 for none, or :data:`CHUNKED`. ``told`` are the
    :data:`~tunnel_server.domain.forwarding.VISITOR_FIELDS` it came with, names in lower case.
    """

    method: bytes
    path: bytes
    minor: int
    host: bytes
    fields: list[Field]
    told: list[Field]
    length: int
    keep_alive: bool
    upgrade: bytes
    takes_trailers: bool
    accept: bytes
    expects_continue: bool


@dataclass(slots=True)
class ResponseHead:
    """An answer's head. ``length`` is its framing before HEAD, 1xx, 204 and 304 are taken into account."""

    status: int
    reason: bytes
    fields: list[Field]
    length: int
    keep_alive: bool
    upgrade: bytes


def has_bare_line_feed(data: bytes, start: int = 0) -> bool:
    """Tell whether a head that has not ended yet can already be refused."""
    return _BARE_LF.search(data, start) is not None


def parse_request(head: bytes, max_fields: int) -> RequestHead:
    """Read a request's head, its last empty line included.

    Raises:
        BadMessage: with the status to answer.
    """
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise BadMessage("malformed request line")
    method, target, major, minor = line.groups()
    if major != b"1" or minor not in b"01":
        raise BadMessage("only HTTP/1.0 and HTTP/1.1 are served", 505)
    raw = _fields(head, line.end(), max_fields)
    hosts: list[bytes] = []
    lengths: list[bytes] = []
    codings: list[bytes] = []
    connection: list[bytes] = []
    upgrade = accept = b""
    takes_trailers = expects_continue = False
    fields: list[Field] = []
    told: list[Field] = []
    for name, padded in raw:
        value = padded.strip(b" \t")
        lower = name.lower()
        if lower not in _READ_HERE:
            fields.append((name, value))
        elif lower == b"host":
            hosts.append(value)
            fields.append((name, value))
        elif lower == b"accept":
            accept += b"," + value
            fields.append((name, value))
        elif lower == b"connection":
            connection += _tokens(value)
        elif lower == b"content-length":
            lengths.append(value)
        elif lower == b"transfer-encoding":
            codings.append(value)
        elif lower == b"upgrade":
            upgrade = value
        elif lower == b"te":
            takes_trailers = b"trailers" in _tokens(value)
        elif lower == b"expect":
            expects_continue = _expects(value)
            fields.append((name, value))
        elif lower in VISITOR_FIELDS:
            told.append((lower, value))
    if minor == b"0" and codings:
        raise BadMessage("Transfer-Encoding in an HTTP/1.0 request")
    host, path = _target(method, target, hosts, minor)
    upgrading = b"upgrade" in connection and upgrade.lower() in _UPGRADES and minor == b"1"
    return RequestHead(
        method=method,
        path=path,
        minor=int(minor),
        host=host,
        fields=_without(fields, connection),
        told=told,
        length=_length(lengths, codings) or 0,
        keep_alive=_keep_alive(minor, connection),
        upgrade=upgrade if upgrading else b"",
        takes_trailers=takes_trailers,
        accept=accept,
        expects_continue=expects_continue and minor == b"1",
    )


def parse_response(head: bytes, max_fields: int) -> ResponseHead:
    """Read an answer's head, its last empty line included.

    Raises:
        BadMessage: the service behind the tunnel does not speak HTTP.
    """
    line = _STATUS_LINE.match(head)
    if line is None:
        raise BadMessage("malformed status line")
    minor, status, reason = line.groups()
    lengths: list[bytes] = []
    codings: list[bytes] = []
    connection: list[bytes] = []
    upgrade = b""
    fields: list[Field] = []
    for name, padded in _fields(head, line.end(), max_fields):
        value = padded.strip(b" \t")
        lower = name.lower()
        if lower not in _READ_IN_ANSWERS:
            fields.append((name, value))
        elif lower == b"content-length":
            lengths.append(value)
        elif lower == b"connection":
            connection += _tokens(value)
        elif lower == b"transfer-encoding":
            codings.append(value)
        elif lower == b"upgrade":
            upgrade = value
    if minor == b"0" and codings:
        raise BadMessage("Transfer-Encoding in an HTTP/1.0 answer")
    length = _length(lengths, codings)
    return ResponseHead(
        status=int(status),
        reason=reason or b"",
        fields=_without(fields, connection),
        length=UNTIL_CLOSE if length is None else length,
        keep_alive=_keep_alive(minor, connection),
        upgrade=upgrade,
    )


def parse_trailers(block: bytes, max_fields: int) -> list[Field]:
    """Read the trailer fields of a chunked body: ``block`` holds whole lines, the empty one left out.

    Raises:
        BadMessage: a line is not a field.
    """
    return [(name, value.strip(b" \t")) for name, value in _fields(block + b"\r\n", 0, max_fields)]


# Read above; those not named there belong to one connection and are dropped.
_READ_IN_ANSWERS = frozenset(
    {
        b"connection",
        b"content-length",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-connection",
        b"transfer-encoding",
        b"upgrade",
    }
)
_READ_HERE = _READ_IN_ANSWERS | VISITOR_FIELDS | {b"accept", b"expect", b"host", b"proxy-authorization", b"te"}


def _fields(head: bytes, start: int, max_fields: int) -> list[Field]:
    found: list[Field] = _FIELD.findall(head, start)
    # the one line feed more is that of the empty line at the end
    if len(found) != head.count(b"\n", start) - 1:
        raise BadMessage("malformed header field")
    if len(found) > max_fields:
        raise BadMessage(f"more than {max_fields} header fields", 431)
    return found


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip(b" \t") for token in value.lower().split(b",")]


def _expects(value: bytes) -> bool:
    if value.lower() != b"100-continue":
        raise BadMessage("unknown expectation", 417)
    return True


def _keep_alive(minor: bytes, connection: list[bytes]) -> bool:
    if b"close" in connection:
        return False
    return minor == b"1" or b"keep-alive" in connection


def _without(fields: list[Field], connection: list[bytes]) -> list[Field]:
    named = set(connection) - {b"close", b"keep-alive", b"upgrade", b""} - NOT_REMOVABLE
    if not named:
        return fields
    return [field for field in fields if field[0].lower() not in named]


def _length(lengths: list[bytes], codings: list[bytes]) -> int | None:
    """Return the body's framing, ``None`` if neither field is there (RFC 9112 §6.3, but stricter)."""
    if not codings and not lengths:
        return None
    if codings:
        if lengths:
            raise BadMessage("both Content-Length and Transfer-Encoding")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise BadMessage("unknown transfer coding", 501)
        return CHUNKED
    if len(lengths) > 1:
        raise BadMessage("several Content-Length fields")
    if _LENGTH.fullmatch(lengths[0]) is None:
        raise BadMessage("malformed Content-Length")
    return int(lengths[0])


def _target(method: bytes, target: bytes, hosts: list[bytes], minor: bytes) -> tuple[bytes, bytes]:
    if len(hosts) > 1:
        raise BadMessage("several Host fields")
    if not hosts and minor == b"1":
        raise BadMessage("no Host field")
    host = hosts[0] if hosts else b""
    if host and _HOST.fullmatch(host) is None:
        raise BadMessage("malformed Host field")
    if method == b"CONNECT":
        raise BadMessage("CONNECT is not served", 405)
    if target[0] == 0x2F:  # origin-form, "/…"
        return host, target
    if target == b"*":
        if method != b"OPTIONS":
            raise BadMessage("the target * is for OPTIONS only")
        return host, target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise BadMessage("malformed request target")
    authority, path = absolute.groups()
    if authority.lower() != host.lower():
        raise BadMessage("the request target names another host than the Host field")
    return host, path if path.startswith(b"/") else b"/" + path
