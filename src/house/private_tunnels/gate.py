"""Who a visitor is to a profile, by tokens."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tunnel_server import Client
from tunnel_server.house.private_tunnels import keys, tokens
from tunnel_server.house.private_tunnels.credentials import MAX_TOKENS, TOKEN_COOKIE, cookies
from tunnel_server.house.private_tunnels.options import PREEVY, LoginService
from tunnel_server.house.private_tunnels.sessions import Clock, Role
from tunnel_server.house.private_tunnels.tokens import TokenRefused

MAX_KNOWN = 4096  # verified tokens that are remembered


@dataclass(frozen=True, slots=True)
class Profile:
    """A client's key, of which all its tunnels are. ``public_key`` is in SSH wire format."""

    thumbprint: str
    public_key: bytes

    @classmethod
    def of(cls, client: Client) -> Profile:
        """Return the profile of a client."""
        return cls(str(client.thumbprint), client.public_key)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a token says: the visitor's role, and until when, in seconds since the epoch; ``None`` for ever."""

    role: Role
    expires_at: float | None


class Gate:
    """Verifies tokens of a profile's own key and of the login service; those seen before are not verified again."""

    def __init__(self, service: LoginService, clock: Clock = time.time) -> None:
        self._service = service
        self._clock = clock
        self._known: dict[bytes, Identity] = {}

    def identify(self, token: str, profile: Profile) -> Identity:
        """Return who shows ``token`` to a tunnel of ``profile``.

        Raises:
            TokenRefused: saying why it is worth nothing there.
        """
        name = hashlib.sha256(f"{profile.thumbprint} {token}".encode("utf-8", "replace")).digest()
        known = self._known.get(name)
        if known is not None and (known.expires_at is None or known.expires_at > self._clock()):
            return known
        found = self._verified(token, profile)
        while len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[name] = found
        return found

    def _verified(self, token: str, profile: Profile) -> Identity:
        issuer = tokens.issuer(token)
        from tunnel_server.house.private_tunnels.signatures import verified  # heavy, and only for private tunnels

        if issuer == PREEVY + profile.thumbprint:
            claims = verified(token, _key(profile), self._clock())
            return Identity(Role.ADMIN, claims.get("exp"))
        if issuer == self._service.issuer and self._service.key is not None:
            claims = verified(token, self._service.key, self._clock())
            return Identity(_role(claims.get("profiles"), profile), _end(claims.get("exp")))
        raise TokenRefused("the token's issuer has no say in this tunnel")

    def by_cookies(self, fields: Sequence[str], profile: Profile) -> Identity | None:
        """Return who shows tokens in cookies; the best of several, for a page elsewhere may have added its own.

        Raises:
            TokenRefused: there are some, and all are worth nothing.
        """
        best: Identity | None = None
        refused: TokenRefused | None = None
        shown = cookies(fields, TOKEN_COOKIE)
        likely = [token for token in shown if token.count(".") == 2] or shown[:1]  # what is none costs nothing
        for token in likely if len(likely) <= MAX_TOKENS else [*likely[: MAX_TOKENS // 2], *likely[-MAX_TOKENS // 2 :]]:
            try:
                found = self.identify(token, profile)
            except TokenRefused as error:
                refused = error
                continue
            if found.role is Role.ADMIN:
                return found
            best = best or found
        if best is None and refused is not None:
            raise refused
        return best


def _key(profile: Profile) -> keys.VerificationKey:
    try:
        return keys.of_ssh(profile.public_key)
    except keys.Unusable:
        raise TokenRefused("the key of this tunnel's owner cannot sign tokens") from None


def _role(profiles: object, profile: Profile) -> Role:
    if not isinstance(profiles, list):
        raise TokenRefused("the token has no list of profiles")
    return Role.ADMIN if profile.thumbprint in profiles else Role.GUEST


def _end(exp: float | None) -> float:
    if exp is None:
        raise TokenRefused("the token has no end")
    return exp
