"""What a visitor is told that may not have what it asks for."""

from __future__ import annotations

from math import ceil

from tunnel_server import Refuse
from tunnel_server_quotas.meter import BUSY

_WHOSE = {"visitor": "you", "tunnel": "this tunnel", "key": "the owner of this tunnel"}
_RETRY_BUSY = "1"  # seconds: a guess, a request may end at any time


def too_many(scope: str, wait: float) -> Refuse:
    """Return the refusal for what :meth:`Meter.wait` said: 503 if too many run, else 429 (RFC 6585 §4).

    Its Retry-After is in whole seconds (RFC 9110 §10.2.3).
    """
    whose = _WHOSE[scope]
    if wait == BUSY:
        reason = f"Too many requests of {whose} run at the same time; try again soon."
        return Refuse(503, reason, (("Retry-After", _RETRY_BUSY),))
    if scope == "visitor":
        reason = "You send more requests than you may; try again later."
    else:
        reason = f"More requests were sent to {whose} than may be; try again later."
    return Refuse(429, reason, (("Retry-After", str(max(1, ceil(wait)))),))


def spent(seconds: int) -> Refuse:
    """Return the refusal for a key that has transferred what it may today; the next day begins in ``seconds``."""
    reason = "The owner of this tunnel has transferred as much as may be on one day (UTC); try again tomorrow."
    return Refuse(429, reason, (("Retry-After", str(seconds)),))
