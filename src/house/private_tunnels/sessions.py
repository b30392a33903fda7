"""Signed values that say that a visitor has signed in: sessions in cookies, and tickets that carry one to a host."""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

MAX_AGE = 60 * 86400  # seconds that a session lasts at most, whatever its token says
GUEST_AGE = 300  # seconds; a guest who was let in meanwhile should not wait longer
TICKET_AGE = 60  # seconds from one redirect to the next
MAX_VALUE = 128  # characters
MAX_KNOWN = 4096  # sessions that are not verified again at each request

Clock = Callable[[], float]  # seconds since the epoch


class Role(StrEnum):
    """What a visitor is to a profile: only admins see its private tunnels."""

    ADMIN = "admin"
    GUEST = "guest"


@dataclass(frozen=True, slots=True)
class Session:
    """A visitor who has signed in. ``expires_at`` is in whole seconds since the epoch."""

    role: Role
    expires_at: int


class Signer:
    """Signs texts for one purpose with the first of several secrets, and verifies them with all.

    Each purpose has keys of its own, so that what was signed for one is nothing to another.
    """

    def __init__(self, secrets: Iterable[str], purpose: str) -> None:
        self._keys = [hmac.digest(secret.encode(), purpose.encode(), "sha256") for secret in secrets]

    def sign(self, text: str) -> str:
        """Return the signature: HMAC-SHA256 (RFC 2104) in base64url, 43 characters."""
        return _mac(self._keys[0], text).decode("ascii")

    def verifies(self, text: str, signature: str) -> bool:
        """Tell whether ``signature`` is that of ``text``, in a time that says nothing of the right one."""
        given = signature.encode("utf-8", "replace")
        return sum(hmac.compare_digest(_mac(key, text), given) for key in self._keys) > 0


def _mac(key: bytes, text: str) -> bytes:
    return base64.urlsafe_b64encode(hmac.digest(key, text.encode("utf-8", "replace"), "sha256")).rstrip(b"=")


class Sessions:
    """Makes and reads the values of session cookies.

    A session belongs to one profile, named by its thumbprint, and one ``scope``: a host, or ``""`` for all of the
    profile's tunnels under the base host.
    """

    def __init__(self, secrets: Iterable[str], clock: Clock = time.time) -> None:
        self._signer = Signer(secrets, "tunnel-server session 1")
        self._clock = clock
        self._known: dict[tuple[str, str, str], Session] = {}  # whose signatures are good

    def make(self, session: Session, thumbprint: str, scope: str) -> str:
        """Return a value that needs no quotes in a cookie (RFC 6265 §4.1.1)."""
        payload = f"{session.expires_at}.{session.role}"
        return f"{payload}.{self._signer.sign(f'{thumbprint} {scope} {payload}')}"

    def read(self, value: str, thumbprint: str, scope: str) -> Session | None:
        """Return the session of a value; ``None`` if it is not ours, of another profile or scope, or over."""
        name = value, thumbprint, scope
        session = self._known.get(name)
        if session is None:
            session = self._verified(*name)
            if session is None:
                return None
            while len(self._known) >= MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[name] = session
        return session if session.expires_at > self._clock() else None

    def _verified(self, value: str, thumbprint: str, scope: str) -> Session | None:
        payload, _, signature = value.rpartition(".")
        if len(value) > MAX_VALUE or not self._signer.verifies(f"{thumbprint} {scope} {payload}", signature):
            return None
        expires_at, _, role = payload.partition(".")  # sound, for we signed it
        return Session(Role(role), int(expires_at))

    def until(self, role: Role, token_expires_at: float | None) -> Session:
        """Return the session that a token makes, which ends with it; one day if that never ends."""
        now = self._clock()
        end = now + 86400 if token_expires_at is None else min(token_expires_at, now + MAX_AGE)
        if role is Role.GUEST:
            end = min(end, now + GUEST_AGE)
        return Session(role, int(end))


class Tickets:
    """Makes and reads the tickets that take a session from the login page to one host, for a minute."""

    def __init__(self, secrets: Iterable[str], clock: Clock = time.time) -> None:
        self._signer = Signer(secrets, "tunnel-server ticket 1")
        self._clock = clock

    def make(self, session: Session, thumbprint: str, host: str) -> str:
        """Return a value that needs no escapes in a URL."""
        payload = f"{int(self._clock()) + TICKET_AGE}.{session.expires_at}.{session.role}"
        return f"{payload}.{self._signer.sign(f'{thumbprint} {host} {payload}')}"

    def read(self, value: str, thumbprint: str, host: str) -> Session | None:
        """Return the session that a ticket carries; ``None`` if it is not ours, not for this host, or over."""
        payload, _, signature = value.rpartition(".")
        if len(value) > MAX_VALUE or not self._signer.verifies(f"{thumbprint} {host} {payload}", signature):
            return None
        until, expires_at, role = payload.split(".")
        session = Session(Role(role), int(expires_at))
        now = self._clock()
        return session if int(until) > now and session.expires_at > now else None


@dataclass(frozen=True, slots=True)
class Signed:
    """The two kinds of signed values."""

    sessions: Sessions
    tickets: Tickets
