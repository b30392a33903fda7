"""How a visitor's connection came in: what its transport alone would not tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

HTTPS = b"https"


def _any_host(host: bytes) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Arrival:
    """A connection as its port took it.

    ``scheme`` is ``b"http"`` or ``b"https"``. ``peer`` is the visitor's address and port where a trusted proxy told
    them (PROXY protocol); ``None`` leaves it to the transport. ``serves`` tells of a Host field whether the
    connection's certificate is good for it: a request for another is misdirected (RFC 9110 §15.5.20).
    ``wants_tls`` is that of a connection that came without TLS to the port that is for TLS.
    """

    scheme: bytes = b"http"
    peer: tuple[str, int] | None = None
    serves: Callable[[bytes], bool] = _any_host
    wants_tls: bool = False


PLAIN = Arrival()
