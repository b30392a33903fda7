"""What a CA is shown that looks whether a server name is ours (TLS-ALPN-01, RFC 8737)."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from tunnel_server.adapters.tls.contexts import TlsOptions, certificate_from
from tunnel_server.adapters.tls.pem import Pem

ALPN = "acme-tls/1"  # §6.2


class ChallengeContexts:
    """Makes the context of an open challenge, once.

    ``answer`` gives the chain and the key, as PEM, for a server name; ``None`` where there is no open challenge.
    """

    def __init__(self, answer: Callable[[str], tuple[bytes, bytes] | None]) -> None:
        self._answer = answer
        self._made: tuple[tuple[bytes, bytes], ssl.SSLContext] | None = None

    def __call__(self, server_name: str) -> ssl.SSLContext | None:
        """Return the context for a handshake that offers :data:`ALPN` and nothing else."""
        pair = self._answer(server_name)
        if pair is None:
            return None
        if self._made is None or self._made[0] != pair:  # anybody may ask, and one is made in a millisecond
            pem = Pem("challenge", *pair, "the challenge's certificate", "the challenge's key")
            self._made = pair, certificate_from(pem, TlsOptions(alpn=(ALPN,))).context
        return self._made[1]
