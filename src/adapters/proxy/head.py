"""Reading message heads, strictly: what two parsers could read differently is refused (RFC 9112).

One regular expression finds all fields in one pass. It is linear: every repetition is possessive,
and each field starts at a line's start. Equal counts of fields and of line feeds prove that every
line was one well-formed field, so bare LF, folded lines, spaces before a colon and control
characters all fail the same comparison.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from tunnel_server.domain.forwarding import HOP_BY_HOP, NOT_REMOVABLE, OUR_COOKIES, VISITOR_FIELDS, Field, is_disguised

END = b"\r\n\r\n"
CHUNKED = -1  # as a length: the body comes in chunks
UNTIL_CLOSE = -2  # as a length: the body ends with the connection; answers only

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21\x22\x24-\x7e]++) HTTP/([0-9])\.([0-9])\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*+))?\r\n")
_FIELD = re.compile(rb"(?m)^((" + _TOKEN + rb"):([\t\x20-\x7e\x80-\xff]*+)\r\n)")
HOST = re.compile(rb"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#@]*)(.*)", re.DOTALL)
_BARE_LF = re.compile(rb"(?<!\r)\n")

# Sending these twice does no harm (RFC 9110 §9.2.2), so one that met a dead channel is sent again.
_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})

_UPGRADES = frozenset({b"websocket", b"tcp"})


class BadMessage(Exception):
    """A message that is not read further. ``status`` is the answer to a request that is bad so."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


@dataclass(slots=True)
class RequestHead:
    """A request's head. ``path`` is in origin-form, or ``*``; ``lines`` are the fields to pass on.

    A line is a whole field as it was checked, CR LF included. ``length`` is the body's in bytes, 0 for
    none, or :data:`CHUNKED`. ``told`` are the :data:`~tunnel_server.domain.forwarding.VISITOR_FIELDS` it
    came with, names in lower case. ``has_our_cookies`` tells that its cookies may be some that no service may see,
    ``bare`` that its visitor gets no more of the answer than :func:`~tunnel_server.domain.forwarding.bared` leaves.
    """

    method: bytes
    path: bytes
    minor: int
    host: bytes
    lines: list[bytes]
    told: list[Field]
    length: int
    keep_alive: bool
    upgrade: bytes
    takes_trailers: bool
    accept: bytes
    has_our_cookies: bool = False
    bare: bool = False

    @property
    def replayable(self) -> bool:
        """Whether the request may be sent twice."""
        return self.length == 0 and self.method in _IDEMPOTENT and not self.upgrade


@dataclass(slots=True)
class ResponseHead:
    """An answer's head. ``length`` is its framing before HEAD, 1xx, 204 and 304 are taken into account."""

    status: int
    reason: bytes
    lines: list[bytes]
    length: int
    keep_alive: bool
    upgrade: bytes
    sets_cookies: bool = False


class _Field(Enum):
    """The fields that are read here; all others are passed on."""

    PASSED = auto()
    DROPPED = auto()
    TOLD = auto()
    ACCEPT = b"accept"
    CONNECTION = b"connection"
    COOKIE = b"cookie"
    EXPECT = b"expect"
    HOST = b"host"
    LENGTH = b"content-length"
    SET_COOKIE = b"set-cookie"
    TE = b"te"
    TRANSFER_ENCODING = b"transfer-encoding"
    UPGRADE = b"upgrade"


# By name of their own in the functions below: to look a member up in its class takes longer than to compare it.
_PASSED, _DROPPED, _TOLD, _ACCEPT, _CONNECTION, _COOKIE, _EXPECT, *_others = _Field
_HOST_FIELD, _LENGTH, _SET_COOKIE, _TE, _CODING, _UPGRADE = _others


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
    hosts: list[bytes] = []
    lengths: list[bytes] = []
    codings: list[bytes] = []
    connection = _NO_OPTIONS
    upgrade = accept = b""
    takes_trailers = expects = False
    lines: list[bytes] = []
    told: list[Field] = []
    has_our_cookies = False
    kinds = _REQUEST_KINDS
    for whole, name, value in _fields(head, line.end(), max_fields):
        kind = kinds.get(name) or _kind(name, kinds)
        if kind is _PASSED:
            lines.append(whole)
        elif kind is _HOST_FIELD:
            hosts.append(value.strip(b" \t"))
            lines.append(whole)
        elif kind is _ACCEPT:
            accept += b"," + value
            lines.append(whole)
        elif kind is _CONNECTION:
            connection = connection | _options(value) if connection else _options(value)
        elif kind is _LENGTH:
            lengths.append(value.strip(b" \t"))
        elif kind is _CODING:
            codings.append(value.strip(b" \t"))
        elif kind is _UPGRADE:
            upgrade = value.strip(b" \t")
        elif kind is _TE:
            takes_trailers = b"trailers" in _options(value)
        elif kind is _EXPECT:
            expects = True
            lines.append(whole)
            if value.strip(b" \t").lower() != b"100-continue":
                raise BadMessage("unknown expectation", 417)
        elif kind is _TOLD:
            told.append((name.lower(), value.strip(b" \t")))
        elif kind is _COOKIE:
            lines.append(whole)
            if OUR_COOKIES in value:
                has_our_cookies = True
    modern = minor == b"1"
    if codings and not modern:
        raise BadMessage("Transfer-Encoding in an HTTP/1.0 request")
    if expects and not modern:  # RFC 9110 §10.1.1: to be ignored, and the service hears HTTP/1.1
        lines = _without(lines, frozenset([b"expect"]))
    host, path = _target(method, target, hosts, modern)
    if connection:
        lines = _without(lines, connection)
        if b"upgrade" not in connection or upgrade.lower() not in _UPGRADES or not modern:
            upgrade = b""
    else:
        upgrade = b""
    length = _length(lengths, codings) if lengths or codings else 0
    keep_alive = _keep_alive(modern, connection)
    return RequestHead(
        method,
        path,
        int(modern),
        host,
        lines,
        told,
        length,
        keep_alive,
        upgrade,
        takes_trailers,
        accept,
        has_our_cookies,
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
    connection = _NO_OPTIONS
    upgrade = b""
    sets_cookies = False
    lines: list[bytes] = []
    kinds = _ANSWER_KINDS
    for whole, name, value in _fields(head, line.end(), max_fields):
        kind = kinds.get(name) or _kind(name, kinds)
        if kind is _PASSED:
            lines.append(whole)
        elif kind is _SET_COOKIE:
            lines.append(whole)
            sets_cookies = True
        elif kind is _LENGTH:
            lengths.append(value.strip(b" \t"))
        elif kind is _CONNECTION:
            connection = connection | _options(value) if connection else _options(value)
        elif kind is _CODING:
            codings.append(value.strip(b" \t"))
        elif kind is _UPGRADE:
            upgrade = value.strip(b" \t")
    modern = minor == b"1"
    if codings and not modern:
        raise BadMessage("Transfer-Encoding in an HTTP/1.0 answer")
    if connection:
        lines = _without(lines, connection)
    length = _length(lengths, codings) if lengths or codings else UNTIL_CLOSE
    keep_alive = _keep_alive(modern, connection)
    return ResponseHead(int(status), reason or b"", lines, length, keep_alive, upgrade, sets_cookies)


def parse_trailers(block: bytes, max_fields: int) -> list[Field]:
    """Read the trailer fields of a chunked body: ``block`` holds whole lines, the empty one left out.

    Raises:
        BadMessage: a line is not a field.
    """
    return [(name, value.strip(b" \t")) for _, name, value in _fields(block + b"\r\n", 0, max_fields)]


_READ_IN_ANSWERS = {field.value: field for field in (_CONNECTION, _LENGTH, _CODING, _UPGRADE)}
_REQUEST_KINDS: dict[bytes, _Field] = (
    dict.fromkeys(HOP_BY_HOP, _DROPPED)
    | dict.fromkeys(VISITOR_FIELDS, _TOLD)
    | _READ_IN_ANSWERS
    | {field.value: field for field in (_ACCEPT, _COOKIE, _EXPECT, _HOST_FIELD, _TE)}
)
_ANSWER_KINDS: dict[bytes, _Field] = (
    dict.fromkeys(HOP_BY_HOP, _DROPPED) | _READ_IN_ANSWERS | {_SET_COOKIE.value: _SET_COOKIE}
)
_MAX_SPELLINGS = 2048  # names remembered as they were spelt; beyond that each is looked at anew


def _kind(name: bytes, kinds: dict[bytes, _Field]) -> _Field:
    """Classify a field by its name in any case, and remember this spelling: most come again and again."""
    lowered = name.lower()
    kind = kinds.get(lowered, _PASSED)
    if kind is _PASSED and is_disguised(lowered):
        kind = _DROPPED
    if len(kinds) < _MAX_SPELLINGS and len(name) <= 64:
        kinds[name] = kind
    return kind


def _fields(head: bytes, start: int, max_fields: int) -> list[tuple[bytes, bytes, bytes]]:
    """Return each field as its whole line, its name, and its value with the space around it."""
    found: list[tuple[bytes, bytes, bytes]] = _FIELD.findall(head, start)
    # the one line feed more is that of the empty line at the end
    if len(found) != head.count(b"\n", start) - 1:
        raise BadMessage("malformed header field")
    if len(found) > max_fields:
        raise BadMessage(f"more than {max_fields} header fields", 431)
    return found


_NO_OPTIONS: frozenset[bytes] = frozenset()


def _options(value: bytes) -> frozenset[bytes]:
    """Return the words of a list field, in lower case."""
    return _remembered_options(value) if len(value) <= 64 else _split_options(value)


def _split_options(value: bytes) -> frozenset[bytes]:
    return frozenset(word.strip(b" \t") for word in value.lower().split(b","))


_remembered_options = lru_cache(256)(_split_options)  # nearly all messages have one of a few


def _keep_alive(modern: bool, connection: frozenset[bytes]) -> bool:
    if not connection:
        return modern
    return b"close" not in connection and (modern or b"keep-alive" in connection)


_NAMES_NOTHING = NOT_REMOVABLE | {b"close", b"keep-alive", b"upgrade", b""}


def _without(lines: list[bytes], connection: frozenset[bytes]) -> list[bytes]:
    if connection <= _NAMES_NOTHING:  # as nearly always
        return lines
    named = connection - _NAMES_NOTHING
    return [line for line in lines if line.partition(b":")[0].lower() not in named]


def _length(lengths: list[bytes], codings: list[bytes]) -> int:
    """Return the body's framing (RFC 9112 §6.3, but stricter)."""
    if codings:
        if lengths:
            raise BadMessage("both Content-Length and Transfer-Encoding")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise BadMessage("unknown transfer coding", 501)
        return CHUNKED
    if len(lengths) > 1:
        raise BadMessage("several Content-Length fields")
    if not lengths[0].isdigit() or len(lengths[0]) > 18:
        raise BadMessage("malformed Content-Length")
    return int(lengths[0])


def _target(method: bytes, target: bytes, hosts: list[bytes], modern: bool) -> tuple[bytes, bytes]:
    if len(hosts) > 1:
        raise BadMessage("several Host fields")
    if not hosts and modern:
        raise BadMessage("no Host field")
    host = hosts[0] if hosts else b""
    if host and HOST.fullmatch(host) is None:
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
