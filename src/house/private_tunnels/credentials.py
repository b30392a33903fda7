"""What a visitor's request says of who sent it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

PROFILE_USER = "x-preevy-profile-key"  # user name of Basic authentication whose password is a token
TOKEN_COOKIE = "preevy-saas-jwt"
MAX_SESSIONS = 64  # cookies of one name that are looked at
MAX_TOKENS = 4  # each may cost as much as a thousand sessions


class Ambiguous(Exception):
    """A request has several ``Authorization`` fields: the service and we might each believe another."""


@dataclass(frozen=True, slots=True)
class Explicit:
    """A token from the field ``Authorization``. ``is_bearer`` tells the schemes apart (RFC 6750, RFC 7617)."""

    token: str
    is_bearer: bool


def explicit(fields: Sequence[str]) -> Explicit | None:
    """Return the token of the ``Authorization`` fields; ``None`` if they have none, or are meant for the service.

    Raises:
        Ambiguous: there are several.
    """
    if not fields:
        return None
    if len(fields) > 1:
        raise Ambiguous
    scheme, _, rest = fields[0].strip().partition(" ")
    match scheme.lower():
        case "bearer":
            return Explicit(rest.strip(), is_bearer=True)
        case "basic":
            user, colon, password = _decoded(rest.strip()).partition(":")
            return Explicit(password, is_bearer=False) if colon and user == PROFILE_USER else None
        case _:
            return None


def _decoded(credentials: str) -> str:
    try:
        return base64.b64decode(credentials.encode("ascii"), validate=True).decode("latin-1")
    except ValueError:
        return ""


def cookies(fields: Sequence[str], name: str, most: int = MAX_SESSIONS) -> list[str]:
    """Return the values of all cookies of one name; of more than ``most``, as many of the first as of the last.

    A page of another host can have cookies sent to us that hide ours: they are first, or the only ones of their path
    (RFC 6265 §8.6). So the first is never the only one to look at.
    """
    found: list[str] = []
    start = name + "="
    for field in fields:
        if start not in field:
            continue
        for part in field.split(";"):
            pair = part.strip(" \t")
            if pair.startswith(start):
                found.append(pair[len(start) :])
    return found if len(found) <= most else found[: most // 2] + found[-most // 2 :]
