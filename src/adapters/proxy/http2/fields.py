"""Fields of HTTP/2 read as strictly as those of HTTP/1.1, and written (RFC 9113 §8)."""

from __future__ import annotations

import base64
import os
import re
from functools import lru_cache

from h2.errors import ErrorCodes

from tunnel_server.adapters.proxy.head import CHUNKED, HOST, BadMessage, RequestHead, ResponseHead
from tunnel_server.adapters.proxy.http2.limits import StreamViolation
from tunnel_server.domain.forwarding import (
    HOP_BY_HOP,
    NOT_IN_TRAILERS,
    OUR_COOKIES,
    VISITOR_FIELDS,
    Field,
    confined,
    is_disguised,
)

_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
_PATH = re.compile(rb"(?:/[\x21\x22\x24-\x7e]*|\*)")
_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol"})
# RFC 9113 §8.2.2: whoever sends them mixes up the versions, and may be out for one of us mistaking an end.
_OF_HTTP_1 = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_DROPPED = HOP_BY_HOP | {b"sec-websocket-key", b"sec-websocket-accept"}  # the last two are of HTTP/1.1's handshake
_READ = frozenset({b"host", b"accept", b"cookie", b"content-length", b"te", b"expect"})
_SPECIAL = _OF_HTTP_1 | _DROPPED | VISITOR_FIELDS | _READ


def malformed(reason: str) -> StreamViolation:
    """Return what to raise for a message that RFC 9113 §8.1.1 calls malformed."""
    return StreamViolation(ErrorCodes.PROTOCOL_ERROR, reason)


def read_request(fields: list[Field], ended: bool) -> RequestHead:
    """Return the head that ``fields`` are in HTTP/1.1; ``ended`` is whether no body comes.

    A websocket's (RFC 8441) is that of its handshake, and has no body.

    Raises:
        StreamViolation: the message is malformed.
        BadMessage: it is well-formed, but not served; with the status to answer.
    """
    pseudo: dict[bytes, bytes] = {}
    count = 0
    for name, value in fields:
        if name[:1] != b":":
            break
        if name not in _PSEUDO or name in pseudo:
            raise malformed("an unknown or repeated pseudo-field")
        pseudo[name] = value
        count += 1
    method = pseudo.get(b":method", b"")
    scheme, path, authority = pseudo.get(b":scheme"), pseudo.get(b":path"), pseudo.get(b":authority")
    protocol = pseudo.get(b":protocol")
    if _METHOD.fullmatch(method) is None:
        raise malformed("no :method, or a malformed one")
    if method == b"CONNECT" and protocol is None:
        raise _plain_connect(scheme, path, authority)
    if not scheme or not path or _PATH.fullmatch(path) is None:
        raise malformed("no :scheme or :path, or a malformed one")
    if protocol is not None and method != b"CONNECT":
        raise malformed(":protocol without CONNECT")
    head = RequestHead(method, path, 1, b"", [], [], CHUNKED, True, b"", False, b"")
    host = _read_fields(head, fields, count)
    _set_host(head, authority, host)
    if path == b"*" and method != b"OPTIONS":
        raise malformed("the path * is for OPTIONS only")
    if scheme not in (b"https", b"http"):
        raise BadMessage("only the schemes https and http are served")
    if protocol is not None:
        _become_handshake(head, protocol)
    elif ended and head.length > 0:
        raise malformed("a content-length, and no body")
    elif ended:
        head.length = 0
    return head


def _plain_connect(scheme: bytes | None, path: bytes | None, authority: bytes | None) -> Exception:
    if scheme is not None or path is not None or not authority:
        return malformed("a malformed CONNECT")
    return BadMessage("CONNECT is not served", 501)


def _read_fields(head: RequestHead, fields: list[Field], start: int) -> bytes | None:
    """Sort the fields behind the pseudo-fields into ``head``; return the Host field, if there is one."""
    lines = head.lines
    cookies: list[bytes] = []
    hosts: list[bytes] = []
    for field in fields[start:] if start else fields:
        name, value = field
        kind = _kind(name)
        if _VALUE.fullmatch(value) is None:
            raise malformed("a field's value has what may not be in one")
        if not kind:
            lines.append(b"%b: %b\r\n" % field)
        elif kind is _DROP:
            continue
        elif name == b"cookie":
            cookies.append(value)
        elif name == b"host":
            hosts.append(value)
        else:
            _look_at(head, field)
    if len(hosts) > 1:
        raise malformed("several Host fields")
    if cookies:
        together = b"; ".join(cookies)  # RFC 9113 §8.2.3
        lines.append(b"cookie: %b\r\n" % together)
        head.has_our_cookies = OUR_COOKIES in together
    return hosts[0] if hosts else None


def _look_at(head: RequestHead, field: Field) -> None:
    """Take a field that means something to us."""
    name, value = field
    if name in _OF_HTTP_1:
        raise malformed("a field that is of HTTP/1.1 only")
    if name in VISITOR_FIELDS:
        head.told.append(field)
    elif name == b"content-length":
        if head.length != CHUNKED or not value.isdigit() or len(value) > 18:
            raise malformed("several content-lengths, or a malformed one")
        head.length = int(value)
    elif name == b"te":
        if value.lower() != b"trailers":
            raise malformed("a transfer coding asked for")
        head.takes_trailers = True
    else:
        head.lines.append(b"%b: %b\r\n" % field)
        if name == b"accept":
            head.accept += b"," + value
        elif value.lower() != b"100-continue":
            raise BadMessage("unknown expectation", 417)


_PASS, _DROP, _LOOK_AT = 0, 1, 2


@lru_cache(2048)
def _remembered_kind(name: bytes) -> int:
    if _NAME.fullmatch(name) is None:
        raise malformed("a field's name has what may not be in one")
    if name in _DROPPED and name not in _OF_HTTP_1 and name not in _READ:
        return _DROP
    if name in _SPECIAL:
        return _LOOK_AT
    return _DROP if is_disguised(name) else _PASS


def _kind(name: bytes) -> int:
    return _remembered_kind(name) if len(name) <= 64 else _remembered_kind.__wrapped__(name)


def _set_host(head: RequestHead, authority: bytes | None, host: bytes | None) -> None:
    """Set the one host that the request is for (RFC 9113 §8.3.1)."""
    if authority is None and host is None:
        raise malformed("neither :authority nor Host")
    if authority is not None and host is not None and authority.lower() != host.lower():
        raise malformed(":authority and Host name different hosts")
    head.host = host if authority is None else authority  # type: ignore[assignment]
    if HOST.fullmatch(head.host) is None:
        raise BadMessage("malformed host")
    head.lines.insert(0, b"Host: %b\r\n" % head.host)


def _become_handshake(head: RequestHead, protocol: bytes) -> None:
    """Turn a websocket's CONNECT into the handshake of HTTP/1.1 (RFC 8441 §5)."""
    if protocol.lower() != b"websocket":
        raise BadMessage("only the protocol websocket is served over CONNECT", 501)
    head.method = b"GET"
    head.upgrade = b"websocket"
    head.length = 0
    head.lines.append(b"Sec-WebSocket-Key: %b\r\n" % base64.b64encode(os.urandom(16)))


def read_trailers(fields: list[Field]) -> list[Field]:
    """Return the trailer fields to pass on.

    Raises:
        StreamViolation: they are malformed.
    """
    passed = []
    for name, value in fields:
        if name[:1] == b":" or name in _OF_HTTP_1:
            raise malformed("trailers with a field that is not for them")
        _kind(name)
        if _VALUE.fullmatch(value) is None:
            raise malformed("a field's value has what may not be in one")
        if name not in NOT_IN_TRAILERS and not is_disguised(name):
            passed.append((name, value))
    return passed


def answer_fields(head: ResponseHead, cookie_path: bytes = b"") -> list[Field]:
    """Return the fields of an answer, final or not; a ``cookie_path`` that is not empty confines its cookies."""
    fields: list[Field] = [(b":status", b"%d" % head.status)]
    lines = confined(head.lines, cookie_path) if cookie_path else head.lines
    fields += [_split(line) if len(line) <= 256 else _split.__wrapped__(line) for line in lines]
    if head.length >= 0 and head.status >= 200 and head.status != 204:
        fields.append((b"content-length", b"%d" % head.length))
    return fields


@lru_cache(4096)
def _split(line: bytes) -> Field:
    name, _, value = line.partition(b":")
    return name.lower(), value.strip(b" \t\r\n")


def trailer_fields(trailers: list[Field]) -> list[Field]:
    """Return the trailers of an answer as HTTP/2 has them."""
    return [(name.lower(), value.strip(b" \t")) for name, value in trailers]
