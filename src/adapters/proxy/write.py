"""Writing message heads anew from what was parsed; no byte of a head is passed on as it came."""

from __future__ import annotations

from enum import Enum, auto

from tunnel_server.adapters.proxy.head import CHUNKED, RequestHead, ResponseHead
from tunnel_server.domain.forwarding import confined


class Framing(Enum):
    """How an answer's body is delimited for the visitor."""

    NONE = auto()
    LENGTH = auto()
    CHUNKED = auto()
    CLOSE = auto()


# By name of their own: to look a member up in its class takes longer than to compare it.
NO_BODY, BY_LENGTH, BY_CHUNKS, BY_CLOSE = Framing


def request_bytes(head: RequestHead, path: bytes, visitor: bytes) -> bytes:
    """Return the head to send to the service; ``visitor`` are the lines that tell who asks."""
    lines = [b"%b %b HTTP/1.1\r\n" % (head.method, path), *head.lines, visitor]
    if head.length == CHUNKED:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    elif head.length or head.method in _WITH_BODY:
        lines.append(b"Content-Length: %d\r\n" % head.length)
    if head.takes_trailers:
        lines.append(b"TE: trailers\r\n")
    if head.upgrade:
        lines.append(b"Connection: Upgrade\r\nUpgrade: %b\r\n" % head.upgrade)
    lines.append(b"\r\n")
    return b"".join(lines)


def framing(request: RequestHead, answer: ResponseHead) -> tuple[Framing, int]:
    """Return how ``answer`` ends for the visitor of ``request``, and the length to read of it (RFC 9112 §6.3).

    That length is 0 where no body comes, whatever the head says.
    """
    if request.method == b"HEAD" or answer.status == 304 or answer.status == 204 or request.bare:
        return NO_BODY, 0
    if answer.length >= 0:
        return (BY_LENGTH if answer.length else NO_BODY), answer.length
    return (BY_CHUNKS if request.minor else BY_CLOSE), answer.length


def response_bytes(
    request: RequestHead, answer: ResponseHead, how: Framing, keep_alive: bool, cookie_path: bytes
) -> bytes:
    """Return the head of a final answer; a ``cookie_path`` that is not empty confines its cookies."""
    passed = confined(answer.lines, cookie_path) if cookie_path else answer.lines
    lines = [b"HTTP/1.1 %d %b\r\n" % (answer.status, answer.reason), *passed]
    if how is BY_CHUNKS:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    elif answer.length >= 0 and answer.status != 204:
        lines.append(b"Content-Length: %d\r\n" % answer.length)
    if not keep_alive:
        lines.append(b"Connection: close\r\n")
    elif not request.minor:
        lines.append(b"Connection: keep-alive\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)


def insist_on_tls(answer: ResponseHead, line: bytes) -> None:
    """Add ``line``, a whole Strict-Transport-Security field, to an answer that has none of its own (RFC 6797)."""
    if not any(field[:_HSTS_SIZE].lower() == _HSTS for field in answer.lines):
        answer.lines.append(line)


def interim_bytes(answer: ResponseHead) -> bytes:
    """Return a 1xx answer other than 101."""
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (answer.status, answer.reason, b"".join(answer.lines))


def switching_bytes(answer: ResponseHead) -> bytes:
    """Return the 101 after which both sides send raw bytes."""
    return b"HTTP/1.1 101 %b\r\n%bConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % (
        answer.reason or b"Switching Protocols",
        b"".join(answer.lines),
        answer.upgrade,
    )


_HSTS = b"strict-transport-security:"
_HSTS_SIZE = len(_HSTS)

# Methods whose empty body is said with a length, as the visitor's agent would (RFC 9110 §8.6).
_WITH_BODY = frozenset({b"POST", b"PUT", b"PATCH"})
