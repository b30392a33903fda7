"""Reading one setting's text: each function returns a value, or raises ValueError saying what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from math import isfinite
from typing import TypeVar

_N = TypeVar("_N", int, float)
Network = IPv4Network | IPv6Network

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)(\*\.)?[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*(ms|s|m|h|)")
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"([0-9]{1,15})\s*(B|KiB|MiB|GiB|)")
_OCTETS = {"B": 1, "": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def text(value: str) -> str:
    """Any text on one line."""
    if any(ord(character) < 32 for character in value):
        raise ValueError("has control characters")
    return value


def lines(value: str) -> str:
    """Any text, with ends of lines."""
    if any(ord(character) < 32 and character not in "\r\n\t" for character in value):
        raise ValueError("has control characters")
    return value


def words(value: str) -> tuple[str, ...]:
    """Words, separated by commas or spaces, each once."""
    return tuple(dict.fromkeys(text(value).replace(",", " ").split()))


def host_names(value: str) -> tuple[str, ...]:
    """Host names in lower case, separated by commas or spaces; the first label may be ``*``."""
    found = tuple(dict.fromkeys(name.lower().removesuffix(".") for name in value.replace(",", " ").split()))
    for name in found:
        if _HOST_NAME.fullmatch(name) is None:
            raise ValueError(f"has {name!r}, which is not a host name")
    return found


def plain_host_names(value: str) -> tuple[str, ...]:
    """Host names in lower case, separated by commas or spaces."""
    found = host_names(value)
    if any(name.startswith("*") for name in found):
        raise ValueError("has a wildcard, which means nothing here")
    return found


def boolean(value: str) -> bool:
    """``true``, ``yes``, ``on``, ``1`` or their opposites."""
    lower = value.strip().lower()
    if lower in _TRUE:
        return True
    if lower in _FALSE:
        return False
    raise ValueError("is neither true nor false")


def node_flag(value: str) -> bool:
    """As the reference server reads ``DEBUG``: anything but nothing and the words for no is yes."""
    return value.strip().lower() not in _FALSE | {""}


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from ``low`` to ``high``."""

    def read(value: str) -> int:
        stripped = value.strip()
        if not (stripped.isascii() and stripped.isdigit() and len(stripped) < 19):
            raise ValueError("is not a whole number")
        return _within(int(stripped), low, high)

    return read


def duration(low: float, high: float) -> Callable[[str], float]:
    """Return a reader of durations in seconds; the text may have a unit: ms, s, m or h."""

    def read(value: str) -> float:
        match = _DURATION.fullmatch(value.strip())
        if match is None or not isfinite(float(match[1])):
            raise ValueError("is not a duration")
        return _within(float(match[1]) * _SECONDS[match[2]], low, high)

    return read


def size(low: int, high: int, *, or_none: bool = False) -> Callable[[str], int]:
    """Return a reader of sizes in octets; the text may have a unit: KiB, MiB or GiB. With ``or_none`` it may be 0."""

    def read(value: str) -> int:
        match = _SIZE.fullmatch(value.strip())
        if match is None:
            raise ValueError("is not a size")
        octets = int(match[1]) * _OCTETS[match[2]]
        return octets if or_none and not octets else _within(octets, low, high)

    return read


def choice(*allowed: str) -> Callable[[str], str]:
    """Return a reader of one word out of several."""

    def read(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"is not one of {', '.join(allowed)}")
        return value

    return read


def several(*allowed: str) -> Callable[[str], tuple[str, ...]]:
    """Return a reader of words out of several, in the order given, separated by commas or spaces."""

    def read(value: str) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(value.replace(",", " ").split()))
        for word in found:
            if word not in allowed:
                raise ValueError(f"has {word!r}, which is not one of {', '.join(allowed)}")
        return found

    return read


def networks(value: str) -> tuple[Network, ...]:
    """Networks in CIDR form, separated by commas or spaces."""
    found = []
    for part in value.replace(",", " ").split():
        try:
            found.append(ip_network(part))
        except ValueError:
            raise ValueError(f"has {part!r}, which is not a network") from None
    return tuple(found)


def _within(value: _N, low: _N, high: _N) -> _N:
    if not low <= value <= high:
        raise ValueError(f"is not from {_number(low)} to {_number(high)}")
    return value


def _number(value: int | float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"
