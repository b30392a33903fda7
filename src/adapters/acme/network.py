"""Requests to an ACME server that hold little memory and can be cut off. Import only where ACME is in use."""

from __future__ import annotations

import email.utils
import socket
from typing import Any

import requests
from acme import client, messages
from josepy.jwa import ES256
from josepy.jwk import JWK
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from tunnel_server.adapters.acme.worker import Lifeline

MAX_ANSWER = 1 << 20  # octets
NONCE_TRIES = 5  # times two, as the library tries again by itself
PIECE = 1 << 16


class TooLong(requests.RequestException):
    """An answer is longer than any that an ACME server has reason to give."""


class Network(client.ClientNetwork):
    """The library's own, with an answer's size bounded, nonces tried again more often, and ``Retry-After`` noted.

    A nonce is refused where several servers stand behind one address, or by chance (RFC 8555 §6.5).
    """

    def __init__(self, key: JWK, ca_file: str | None, timeout: float, lifeline: Lifeline) -> None:
        super().__init__(key, alg=ES256, user_agent="tunnel-server", timeout=timeout)  # type: ignore[arg-type]
        if ca_file is not None:
            self.verify_ssl = ca_file  # type: ignore[assignment] # requests takes either
        self.retry_after: str | None = None
        self.status = 0  # of the last answer
        self.session.max_redirects = 3
        self.session.headers["Accept-Encoding"] = "identity"
        self.session.hooks["response"].append(self._note)
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, _Adapter(lifeline))

    def post(self, *args: Any, **named: Any) -> requests.Response:
        """Post, with another nonce where one is refused.

        Raises:
            messages.Error: what the server says.
        """
        for _ in range(NONCE_TRIES - 1):
            try:
                return super().post(*args, **named)
            except messages.Error as error:
                if error.code != "badNonce":
                    raise
        return super().post(*args, **named)

    def asked_delay(self, now: float) -> float | None:
        """Return the seconds after which the last answer wants to be asked again, if it said so; they may be past."""
        if self.retry_after is None:
            return None
        if self.retry_after.isascii() and self.retry_after.isdigit():
            return float(self.retry_after[:9])
        try:
            return email.utils.parsedate_to_datetime(self.retry_after).timestamp() - now
        except (ValueError, OverflowError):
            return None

    def _note(self, response: requests.Response, *args: Any, **named: Any) -> None:
        self.status = response.status_code
        self.retry_after = response.headers.get("Retry-After")


class _Adapter(HTTPAdapter):
    def __init__(self, lifeline: Lifeline) -> None:
        self._lifeline = lifeline
        super().__init__()

    def init_poolmanager(self, *args: Any, **named: Any) -> None:
        super().init_poolmanager(*args, **named)
        lifeline = self._lifeline

        class Plain(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                return _watched(super()._new_conn(), lifeline)

        class Tls(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                return _watched(super()._new_conn(), lifeline)

        plain, tls = _pool(HTTPConnectionPool, Plain), _pool(HTTPSConnectionPool, Tls)
        self.poolmanager.pool_classes_by_scheme = {"http": plain, "https": tls}

    def send(self, *args: Any, **named: Any) -> requests.Response:
        response = super().send(*args, **named | {"stream": True})
        pieces, length = [], 0
        for piece in response.iter_content(PIECE):
            pieces.append(piece)
            length += len(piece)
            if length > MAX_ANSWER:
                response.close()
                raise TooLong(f"the answer is longer than {MAX_ANSWER} octets")
        response._content = b"".join(pieces)
        return response


def _watched(sock: socket.socket, lifeline: Lifeline) -> socket.socket:
    try:
        lifeline.add(sock)
    except OSError:
        sock.close()
        raise
    return sock


def _pool(kind: Any, connection: type[HTTPConnection]) -> Any:
    return type(kind.__name__, (kind,), {"ConnectionCls": connection})
