"""JSON Web Tokens (RFC 7519), as far as they say who has issued them."""

from __future__ import annotations

import base64
import json
from typing import Any

MAX_TOKEN = 16 * 1024  # characters; as much as a field of a head may have


class TokenRefused(Exception):
    """A token is malformed, not valid now, or signed by somebody else. The text is fit for the visitor."""


def issuer(token: str) -> str:
    """Return who claims to have issued ``token``, which is not verified by that.

    Raises:
        TokenRefused: it is malformed, or names nobody.
    """
    if len(token) > MAX_TOKEN:
        raise TokenRefused(f"the token is longer than {MAX_TOKEN} characters")
    parts = token.split(".")
    if len(parts) != 3:
        raise TokenRefused("the token is not a signed JWT")
    found = _object(parts[1]).get("iss")
    if not isinstance(found, str) or not found:
        raise TokenRefused("the token has no issuer")
    # What follows only reads headers; the library refuses what is marked as critical itself (RFC 7515 §4.1.11).
    if not isinstance(_object(parts[0]).get("alg"), str):
        raise TokenRefused("the token names no algorithm")
    return found


def _object(part: str) -> dict[str, Any]:
    """Decode one part (RFC 7515 §2)."""
    try:
        found = json.loads(base64.urlsafe_b64decode(part.encode("ascii") + b"=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        raise TokenRefused("the token is malformed") from None
    if not isinstance(found, dict):
        raise TokenRefused("the token is malformed")
    return found
