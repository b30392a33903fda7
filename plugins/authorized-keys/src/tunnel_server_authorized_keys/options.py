"""The options in front of a key: read as sshd(8) reads them, kept where they mean something here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import inf

from tunnel_server_authorized_keys.addresses import AddressPatterns
from tunnel_server_authorized_keys.patterns import NamePatterns
from tunnel_server_authorized_keys.times import read_expiry

# The name, and a value in quotes in which \" is a quote; possessive, as sshd never takes an escaped quote for the end.
_OPTION = re.compile(r'([A-Za-z0-9-]+)(?:="((?:\\"|[^"])*+)")?')
_PLAIN = frozenset({"restrict", "cert-authority"})
_NEGATABLE = frozenset({"port-forwarding", "agent-forwarding", "x11-forwarding", "pty", "user-rc", "touch-required"})
_VALUED = frozenset(
    {"command", "environment", "from", "permitlisten", "permitopen", "principals", "expiry-time", "tunnel"}
)
_FLAGS = _PLAIN | _NEGATABLE | {f"no-{name}" for name in _NEGATABLE} | {"no-verify-required"}


@dataclass(frozen=True, slots=True)
class Options:
    """What a line allows. ``listen`` is ``None`` where any name of the client's own may be published.

    ``expires_at`` is in seconds since the epoch. ``principals`` are patterns, ``None`` where any principal counts.
    """

    sources: AddressPatterns | None = None
    expires_at: float = inf
    forwarding: bool = True
    listen: NamePatterns | None = None
    authority: bool = False
    principals: tuple[str, ...] | None = None


@dataclass(slots=True)
class _Draft:
    sources: AddressPatterns | None = None
    expires_at: float = inf
    forwarding: bool = True
    listen: list[str] = field(default_factory=list)
    authority: bool = False
    principals: tuple[str, ...] | None = None

    def take_flag(self, name: str) -> None:
        match name:
            case "restrict" | "no-port-forwarding":
                self.forwarding = False
            case "port-forwarding":
                self.forwarding = True
            case "cert-authority":
                self.authority = True

    def take_value(self, name: str, value: str) -> None:
        match name:
            case "from":
                _once(name, self.sources)
                self.sources = AddressPatterns.parse(value)
            case "principals":
                _once(name, self.principals)
                self.principals = _words(value)
            case "permitlisten":
                self.listen += _words(value)
            case "expiry-time":
                self.expires_at = min(self.expires_at, read_expiry(value))

    def done(self) -> Options:
        listen = NamePatterns.parse(self.listen) if self.listen else None
        return Options(self.sources, self.expires_at, self.forwarding, listen, self.authority, self.principals)


def read_options(text: str) -> tuple[Options, str]:
    """Return the options that ``text`` begins with, and what follows the blank behind them.

    Raises:
        ValueError: an option is unknown, malformed, given twice, or is one that cannot be enforced here.
    """
    draft = _Draft()
    found, rest = _split(text)
    for name, value in found:
        try:
            _take(draft, name, value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    try:
        return draft.done(), rest
    except ValueError as error:
        raise ValueError(f"permitlisten: {error}") from None


def _split(text: str) -> tuple[list[tuple[str, str | None]], str]:
    """Return each option's name in lower case and its value without quotes, and what follows the options."""
    found: list[tuple[str, str | None]] = []
    at = 0
    while True:
        match = _OPTION.match(text, at)
        end = at if match is None else match.end()
        if match is None or text[end : end + 1] not in {",", " ", "\t", ""}:
            raise ValueError(f"malformed or unknown option at {text[at : at + 40]!r}")
        found.append((match[1].lower(), None if match[2] is None else match[2].replace('\\"', '"')))
        if text[end : end + 1] != ",":
            return found, text[end:].lstrip(" \t")
        at = end + 1


def _take(draft: _Draft, name: str, value: str | None) -> None:
    if name == "verify-required":  # to ignore it would let a key in without the PIN that its owner was to give
        raise ValueError("whether a PIN was entered cannot be checked by this server")
    if value is None and name in _FLAGS:
        draft.take_flag(name)
    elif value is not None and name in _VALUED:
        draft.take_value(name, value)
    else:
        raise ValueError("unknown option" if name not in _FLAGS | _VALUED else "a value is missing, or means nothing")


def _once(name: str, before: object) -> None:
    if before is not None:
        raise ValueError("given twice")


def _words(value: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in value.split(","))
    if not all(words):
        raise ValueError("has an empty entry")
    return words
