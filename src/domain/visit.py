"""A visitor's request as policies see it, its fields as transformations change them, and how it ended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunnel_server.domain.forwarding import HOP_BY_HOP, VISITOR_FIELDS

if TYPE_CHECKING:
    from tunnel_server.domain.tunnel import Tunnel

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,16384}")
# What decides where a message ends, or where it goes, is not for a plugin to change.
_OURS = frozenset(name.decode() for name in HOP_BY_HOP | VISITOR_FIELDS) | {"host", "content-length", "trailer"}


class Request:
    """A request's head, to read. Text is decoded as latin-1, names of fields are in lower case.

    ``path`` is the target as the service would get it, query included. ``scheme`` is that of the visitor's own
    connection, ``visitor`` the visitor's address, an IPv6 network of 64 bits as one. ``secure`` tells whether the
    visitor's connection is HTTPS, ``is_simple`` that the request has no body and asks for no other protocol.
    """

    __slots__ = ("_cookies", "_lines", "host", "is_simple", "method", "path", "scheme", "visitor")

    def __init__(
        self,
        method: str,
        path: str,
        host: str,
        scheme: str,
        visitor: str,
        lines: list[bytes],
        is_simple: bool = True,
    ) -> None:
        self.is_simple = is_simple
        self.method = method
        self.path = path
        self.host = host
        self.scheme = scheme
        self.visitor = visitor
        self._lines = lines  # whole fields, CR LF included
        self._cookies: dict[str, str] | None = None

    @property
    def secure(self) -> bool:
        """Whether the visitor came by HTTPS."""
        return self.scheme == "https"

    def header(self, name: str, default: str = "") -> str:
        """Return a field's value, several lines of it joined by ``, ``; ``name`` is in lower case."""
        values = self.headers(name)
        return ", ".join(values) if values else default

    def headers(self, name: str) -> list[str]:
        """Return the values of all lines of one field; ``name`` is in lower case."""
        start = name.encode("latin-1") + b":"
        size = len(start)
        return [line[size:].strip().decode("latin-1") for line in self._lines if line[:size].lower() == start]

    def cookie(self, name: str) -> str | None:
        """Return the value of a cookie, the first of its name; none decoded (RFC 6265 §4.2)."""
        if self._cookies is None:
            self._cookies = {}
            for part in "; ".join(self.headers("cookie")).split(";"):
                key, found, value = part.strip().partition("=")
                if found:
                    self._cookies.setdefault(key, value)
        return self._cookies.get(name)


class Headers:
    """The fields of a request or an answer, to change. Names compare without regard to case.

    Fields that decide how a message is read or where it goes cannot be set or removed.
    """

    __slots__ = ("lines",)

    def __init__(self, lines: list[bytes]) -> None:
        self.lines = lines  # whole fields, CR LF included

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for line in self.lines:
            name, _, value = line.decode("latin-1").partition(":")
            yield name, value.strip()

    def get(self, name: str, default: str = "") -> str:
        """Return a field's value, several lines of it joined by ``, ``."""
        values = self.get_all(name)
        return ", ".join(values) if values else default

    def get_all(self, name: str) -> list[str]:
        """Return the values of all lines of one field."""
        return [value for key, value in self if key.lower() == name.lower()]

    def set(self, name: str, value: str) -> None:
        """Put one line in place of all of that name.

        Raises:
            ValueError: the name or value is malformed, or the field is not for a plugin to change.
        """
        line = _line(name, value)
        self.lines[:] = [*self._without(name), line]

    def add(self, name: str, value: str) -> None:
        """Add a line.

        Raises:
            ValueError: the name or value is malformed, or the field is not for a plugin to change.
        """
        self.lines.append(_line(name, value))

    def remove(self, name: str) -> None:
        """Take all lines of that name away.

        Raises:
            ValueError: the field is not for a plugin to change.
        """
        _check(name)
        self.lines[:] = self._without(name)

    def _without(self, name: str) -> list[bytes]:
        wanted = name.lower().encode("latin-1")
        return [line for line in self.lines if line.partition(b":")[0].lower() != wanted]


def may_change(name: str) -> bool:
    """Tell whether a field may be set, removed or hidden by a plugin."""
    return _NAME.fullmatch(name) is not None and name.lower() not in _OURS


def is_field(name: str, value: str) -> bool:
    """Tell whether both may be written into a head as they are (RFC 9110 §5)."""
    return _NAME.fullmatch(name) is not None and _VALUE.fullmatch(value) is not None


def _line(name: str, value: str) -> bytes:
    _check(name)
    if _VALUE.fullmatch(value) is None:
        raise ValueError(f"the value of {name} has characters that may not be in a field, or is too long")
    return f"{name}: {value}\r\n".encode("latin-1")


def _check(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name[:80]!r} is no field name")
    if name.lower() in _OURS:
        raise ValueError(f"{name} is for the server to set")


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """A request that ended. ``outcome`` is one of :class:`~tunnel_server.domain.metrics.Outcome`, as text.

    ``tunnel`` is ``None`` if it was for none. ``status`` is 0 if no answer was sent. Sizes are octets, heads included.
    """

    tunnel: Tunnel | None
    visitor: str
    method: str
    host: str
    path: str
    status: int
    outcome: str
    seconds: float
    bytes_in: int
    bytes_out: int
