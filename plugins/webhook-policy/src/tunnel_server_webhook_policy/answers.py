"""What the endpoint answers, checked member by member. Anything unexpected is a failure, never a guess."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Any, NoReturn
from urllib.parse import urlsplit

from tunnel_server import Accept, Access, Allow, Answer, Challenge, ForwardRequest, Login, Refuse, Reject

MAX_ATTRIBUTES = 32
MAX_REASON = 500  # characters
MAX_LOCATION = 4096
PREFIX = "webhook-policy."  # of attributes

_FIELD_VALUE = re.compile(r"[\x20-\x7e]{1,1000}")
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,256}")
_ATTRIBUTE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_COMMON = frozenset({"version", "decision", "reason", "cacheSeconds"})
_TIMES = 1e11  # seconds since the epoch; beyond, somebody means milliseconds


class Malformed(Exception):
    """The answer is not what was agreed on; the text names the member."""


@dataclass(frozen=True, slots=True)
class Told:
    """A decision, and for how many seconds it is good."""

    value: Any
    seconds: float


@dataclass(frozen=True, slots=True)
class Changes:
    """What the endpoint wants of a tunnel that it accepts; what it did not name stays."""

    changed: dict[str, Any]

    def of(self, request: ForwardRequest) -> ForwardRequest:
        """Return ``request`` with the changes made."""
        return replace(request, **self.changed)


class _Members:
    """The members of an answer, each read once; those that nobody reads are not allowed."""

    def __init__(self, found: dict[str, Any], allowed: frozenset[str]) -> None:
        unknown = found.keys() - allowed
        if unknown:
            raise Malformed(f"{min(unknown)[:40]!r} is not known here")
        self._found = found

    def text(self, name: str, default: str, shape: Callable[[str], bool]) -> str:
        value = self._found.get(name)
        if value is None:
            return default
        if not isinstance(value, str) or not shape(value):
            raise Malformed(f"{name} is not usable")
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        value = self._found.get(name)
        if value is None:
            return default
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not (isfinite(value) and low <= value <= high)
        ):
            raise Malformed(f"{name} is no number from {low:g} to {high:g}")
        return value

    def get(self, name: str) -> Any:
        return self._found.get(name)

    def has(self, name: str) -> bool:
        return name in self._found


def read_client(body: bytes, now: float) -> Told:
    """Read ``accept`` (with ``attributes``, ``expiresAt``), ``reject`` or ``none``; ``now`` in seconds of the epoch.

    Raises:
        Malformed: naming what is wrong.
    """
    members = _members(body, "attributes", "expiresAt")
    seconds = _seconds(members)
    match _decision(members):
        case "accept":
            expires_at = members.number("expiresAt", inf, 0, _TIMES)
            return Told(Accept(_attributes(members.get("attributes")), expires_at), min(seconds, expires_at - now))
        case "reject":
            return Told(Reject(_reason(members, "The policy of this server refuses this key.")), seconds)
        case "none":
            return Told(None, seconds)
        case other:
            raise _no_decision(other)


def read_tunnel(body: bytes, _now: float) -> Told:
    """Read ``accept`` (with ``access``, ``meta``, ``httpsOnly``), ``reject`` or ``none``.

    Raises:
        Malformed: naming what is wrong.
    """
    members = _members(body, "access", "meta", "httpsOnly")
    seconds = _seconds(members)
    match _decision(members):
        case "accept":
            return Told(Changes(_changes(members)), seconds)
        case "reject":
            return Told(Reject(_reason(members, "The policy of this server refuses this tunnel.")), seconds)
        case "none":
            return Told(None, seconds)
        case other:
            raise _no_decision(other)


def read_request(body: bytes, _now: float) -> Told:
    """Read ``allow`` (with ``hide``), ``refuse`` (``status``, ``retryAfter``), ``challenge``, ``login`` or ``none``.

    Raises:
        Malformed: naming what is wrong.
    """
    members = _members(body, "status", "retryAfter", "location", "challenge", "hide")
    seconds = _seconds(members)
    decision = _decision(members)
    return Told(None if decision == "none" else _answer(members, decision), seconds)


def _answer(members: _Members, decision: str) -> Answer:
    match decision:
        case "allow":
            return Allow(_hidden(members.get("hide")))
        case "refuse":
            status = members.number("status", 403, 400, 599)
            if status != int(status):
                raise Malformed("status is no whole number")
            return Refuse(int(status), _reason(members, "The policy of this server refuses this."), _again(members))
        case "challenge":
            challenge = members.text("challenge", "", lambda value: _FIELD_VALUE.fullmatch(value) is not None)
            if not challenge:
                raise Malformed("challenge is missing")
            return Challenge(challenge, _reason(members, "This tunnel asks for credentials."))
        case "login":
            location = members.text("location", "", _is_location)
            if not location:
                raise Malformed("location is missing")
            return Login(location)
        case other:
            raise _no_decision(other)


def _members(body: bytes, *allowed: str) -> _Members:
    try:
        found = json.loads(body.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise Malformed("it is no JSON") from None
    if not isinstance(found, dict):
        raise Malformed("it is no JSON object")
    if found.get("version", 1) != 1:
        raise Malformed("version is not 1")
    return _Members(found, _COMMON.union(allowed))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a member given twice: of two decisions, nobody should have to guess the one that counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member twice")
    return found


def _decision(members: _Members) -> str:
    decision = members.text("decision", "", lambda value: len(value) < 20)
    if not decision:
        raise Malformed("decision is missing")
    return decision


def _no_decision(other: str) -> Malformed:
    return Malformed(f"decision {other!r} is none of this kind")


def _seconds(members: _Members) -> float:
    return members.number("cacheSeconds", 0, 0, 1e9)


def _reason(members: _Members, default: str) -> str:
    return members.text("reason", default, lambda value: 0 < len(value) <= MAX_REASON and value.isprintable())


def _again(members: _Members) -> tuple[tuple[str, str], ...]:
    seconds = members.number("retryAfter", 0, 0, 1e6)
    return (("Retry-After", str(int(seconds))),) if seconds else ()


def _is_location(value: str) -> bool:
    try:
        parts = urlsplit(value)
        plain = value.isascii() and value.isprintable() and not set(value) & set(' "<>\\^`{|}')
        return plain and len(value) <= MAX_LOCATION and parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def _attributes(found: Any) -> dict[str, str]:
    if found is None:
        return {}
    if not isinstance(found, dict) or len(found) > MAX_ATTRIBUTES:
        raise Malformed(f"attributes is no object of at most {MAX_ATTRIBUTES} members")
    for name, value in found.items():
        if _ATTRIBUTE.fullmatch(name) is None or not isinstance(value, str) or len(value) > 1024:
            raise Malformed(f"the attribute {name[:40]!r} is not usable")
    return {PREFIX + name.removeprefix(PREFIX): value for name, value in found.items()}


def _hidden(found: Any) -> frozenset[str]:
    if found is None:
        return frozenset()
    names = [name.lower() for name in found if isinstance(name, str)] if isinstance(found, list) else [""]
    if len(names) > MAX_ATTRIBUTES or not all(map(_FIELD_NAME.fullmatch, names)) or len(names) != len(found):
        raise Malformed("hide is no list of names of fields")
    return frozenset(names)


def _changes(members: _Members) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    if members.get("access") is not None:
        if members.get("access") not in ("public", "private"):
            raise Malformed("access is neither public nor private")
        changed["access"] = Access(members.get("access"))
    if members.has("meta"):
        changed["meta"] = members.get("meta")
    if members.get("httpsOnly") is not None:
        if not isinstance(members.get("httpsOnly"), bool):
            raise Malformed("httpsOnly is neither true nor false")
        changed["https_only"] = members.get("httpsOnly")
    return changed
