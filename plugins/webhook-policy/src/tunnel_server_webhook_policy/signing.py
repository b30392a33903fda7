"""Signatures over bodies: ``t=<seconds since the epoch>,v1=<hex HMAC-SHA256 of "<t>.<body>">``, one ``v1`` a secret."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

HEADER = "X-Tunnel-Signature"
TOLERANCE = 300.0  # seconds that clocks may be apart
MAX_HEADER = 1024  # characters of a signature that are looked at


class BadSignature(Exception):
    """A body is not signed as it has to be; the text says what is wrong."""


def sign(secrets: Sequence[str], body: bytes, now: int) -> str:
    """Return the header's value: a signature by each of ``secrets``, so that either side may change first."""
    return ",".join([f"t={now}", *(f"v1={_mac(secret, now, body)}" for secret in secrets)])


def verify(secrets: Sequence[str], header: str, body: bytes, now: float) -> None:
    """Check a header's value against ``body``; one good signature by one of ``secrets`` is enough.

    Raises:
        BadSignature: it is missing, malformed, too old, or by nobody we know.
    """
    at, signatures = _parts(header)
    if abs(now - at) > TOLERANCE:
        raise BadSignature(f"it was signed {abs(now - at):.0f} s away from now")
    wanted = [_mac(secret, at, body) for secret in secrets]
    if not any(hmac.compare_digest(one, other) for one in wanted for other in signatures):
        raise BadSignature("no signature is by a secret of ours")


def _mac(secret: str, at: int, body: bytes) -> str:
    return hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256).hexdigest()


def _parts(header: str) -> tuple[int, list[str]]:
    if not header.isascii() or len(header) > MAX_HEADER:
        raise BadSignature("the signature is malformed")
    pairs = [part.strip().partition("=") for part in header.split(",")]
    times = [value for key, _, value in pairs if key == "t"]
    if len(times) != 1 or not (times[0].isdigit() and len(times[0]) < 16):
        raise BadSignature("the signature is missing or malformed")
    return int(times[0]), [value for key, _, value in pairs if key == "v1"]
