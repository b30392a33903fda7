"""Body framing (RFC 9112 §6, §7): where a body ends, and its payload without its framing.

Each reader takes bytes and says which of them are payload and where the body ended. Chunks are
never passed on as they came, but written anew, so no chunk extension or odd size gets through.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Protocol

from tunnel_server.adapters.proxy.head import CHUNKED, UNTIL_CLOSE, BadMessage, parse_trailers
from tunnel_server.domain.forwarding import NOT_IN_TRAILERS, Field, is_disguised

MAX_CHUNK_LINE = 512  # octets of a chunk's size with its extensions
MAX_CHUNKS_AT_ONCE = 1000  # of a body that may be cut into millions; then others have their turn
MAX_TRAILERS = 16 * 1024  # octets of trailer fields

# 15 digits hold an exbibyte; an extension may have anything printable, and is thrown away
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*+;[\t\x20-\x7e\x80-\xff]*+)?")


class BodyReader(Protocol):
    """Finds a body's payload and end. ``done`` is whether the end was reached."""

    done: bool
    trailers: list[Field]

    def feed(self, data: bytes, start: int) -> tuple[bytes, int]:
        """Return the payload in ``data`` from ``start``, and where in ``data`` the reading stopped.

        Everything is read unless the body ended or came in more than :data:`MAX_CHUNKS_AT_ONCE` chunks;
        then the rest is for another call. The payload is whole: nothing is kept back.

        Raises:
            BadMessage: the framing is broken.
        """


def body_reader(length: int) -> BodyReader:
    """Return a reader for a body of ``length`` bytes, :data:`CHUNKED`, or :data:`UNTIL_CLOSE`."""
    if length == 0:
        return NO_BODY
    if length == CHUNKED:
        return ChunkedReader()
    if length == UNTIL_CLOSE:
        return UntilCloseReader()
    return LengthReader(length)


class LengthReader(BodyReader):
    """A body whose Content-Length is known."""

    __slots__ = ("_left", "done", "trailers")

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0
        self.trailers: list[Field] = []

    def feed(self, data: bytes, start: int) -> tuple[bytes, int]:
        here = len(data) - start
        if here < self._left:
            self._left -= here
            return (data[start:] if start else data), len(data)
        end = start + self._left
        self._left = 0
        self.done = True
        return (data if start == 0 and end == len(data) else data[start:end]), end


NO_BODY: BodyReader = LengthReader(0)  # has no state to share


class UntilCloseReader(BodyReader):
    """A body that ends with the connection; whoever sees that end knows it is complete."""

    __slots__ = ("done", "trailers")

    def __init__(self) -> None:
        self.done = False
        self.trailers: list[Field] = []

    def feed(self, data: bytes, start: int) -> tuple[bytes, int]:
        return (data[start:] if start else data), len(data)


class _In(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILERS = auto()


# By name of their own: to look a member up in its class takes longer than to compare it.
_SIZE, _DATA, _DATA_END, _TRAILERS = _In


class ChunkedReader(BodyReader):
    """A body in chunks (RFC 9112 §7.1)."""

    __slots__ = ("_in", "_kept", "_left", "done", "trailers")

    def __init__(self) -> None:
        self._in = _SIZE
        self._left = 0
        self._kept = b""  # of a line that has not ended yet
        self.done = False
        self.trailers: list[Field] = []

    def feed(self, data: bytes, start: int) -> tuple[bytes, int]:
        kept = len(self._kept)
        if kept:
            data = self._kept + data[start:]
            self._kept = b""
            payload, stop = self._feed(data, 0)
            return payload, start + stop - kept
        return self._feed(data, start)

    def _feed(self, data: bytes, at: int) -> tuple[bytes, int]:
        pieces: list[bytes] = []
        size = len(data)
        while at < size and not self.done and len(pieces) < MAX_CHUNKS_AT_ONCE:
            if self._in is _DATA:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left == 0:
                    self._in = _DATA_END
            elif self._in is _DATA_END:
                if data[at : at + 2] != b"\r\n":
                    if size - at == 1 and data[at] == 0x0D:
                        return self._keep(pieces, data, at)
                    raise BadMessage("a chunk is longer than it says")
                at += 2
                self._in = _SIZE
            elif self._in is _SIZE:
                end = data.find(b"\r\n", at, at + MAX_CHUNK_LINE)
                if end < 0:
                    self._refuse_line(data, at, MAX_CHUNK_LINE)
                    return self._keep(pieces, data, at)
                self._left = _chunk_size(data[at:end])
                at = end + 2
                self._in = _DATA if self._left else _TRAILERS
            else:
                if data.startswith(b"\r\n", at):
                    self.done = True
                    at += 2
                    break
                end = data.find(b"\r\n\r\n", at, at + MAX_TRAILERS)
                if end < 0:
                    self._refuse_line(data, at, MAX_TRAILERS)
                    return self._keep(pieces, data, at)
                fields = parse_trailers(data[at : end + 2], 100)
                self.trailers = [field for field in fields if _may_trail(field[0].lower())]
                self.done = True
                at = end + 4
        return b"".join(pieces), at

    @staticmethod
    def _refuse_line(data: bytes, at: int, limit: int) -> None:
        if len(data) - at >= limit:
            raise BadMessage("a chunk's size or trailer is too long")
        if re.search(rb"(?<!\r)\n", data[at:]):
            raise BadMessage("a bare line feed in chunked framing")

    def _keep(self, pieces: list[bytes], data: bytes, at: int) -> tuple[bytes, int]:
        self._kept = data[at:]
        return b"".join(pieces), len(data)


def _may_trail(name: bytes) -> bool:
    return name not in NOT_IN_TRAILERS and not is_disguised(name)


def _chunk_size(line: bytes) -> int:
    match = _CHUNK_LINE.fullmatch(line)
    if match is None:
        raise BadMessage("malformed chunk size")
    return int(match[1], 16)


def chunk(payload: bytes) -> bytes:
    """Return ``payload`` as one chunk; nothing for nothing, since an empty chunk ends a body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""


def last_chunk(trailers: list[Field]) -> bytes:
    """Return the end of a chunked body, with its trailer fields."""
    if not trailers:
        return b"0\r\n\r\n"
    return b"0\r\n%b\r\n" % b"".join(b"%b: %b\r\n" % field for field in trailers)
