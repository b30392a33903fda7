"""JSON Web Tokens (RFC 7519), as far as they say who a visitor is."""

from __future__ import annotations

import base64
import json
from typing import Any

from joserfc import jwt
from joserfc.errors import ClaimError, ExpiredTokenError, JoseError, UnsupportedAlgorithmError
from joserfc.jws import JWSRegistry

from tunnel_server.house.private_tunnels.keys import VerificationKey

MAX_TOKEN = 16 * 1024  # characters; as much as a field of a head may have
LEEWAY = 5  # seconds that the issuer's clock may be ahead


class TokenRefused(Exception):
    """A token is malformed, not valid now, or signed by somebody else. The text is fit for the visitor."""


class _Algorithms(JWSRegistry):
    """Knows the algorithms of one key. They are fixed by the key, so no warning of a broad name is due (RFC 9864)."""

    max_header_length = MAX_TOKEN
    max_payload_length = MAX_TOKEN
    max_signature_length = MAX_TOKEN  # an RSA key of 8192 bits has more than the library's 1024 characters

    def get_alg(self, name: str) -> Any:
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError("the algorithm is not one of the key's")
        return self.algorithms[name]


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


def verified(token: str, key: VerificationKey, now: float) -> dict[str, Any]:
    """Return the claims of a token that :func:`issuer` has seen and ``key`` has signed, valid at ``now``.

    ``exp`` is to the second; ``nbf`` and ``iat`` may be up to ``LEEWAY`` seconds ahead.

    Raises:
        TokenRefused: the signature is bad, or the token is expired, not valid yet, or malformed.
    """
    try:
        claims = jwt.decode(
            token, key.key, registry=_Algorithms(algorithms=key.algorithms, strict_check_header=False)
        ).claims
        jwt.JWTClaimsRegistry(now=int(now), leeway=LEEWAY).validate(claims)
    except ExpiredTokenError:
        raise TokenRefused("the token is expired") from None
    except ClaimError as error:
        raise TokenRefused(f"the token is not valid: claim {error.claim}") from None
    except (JoseError, ValueError, TypeError, KeyError, RecursionError):
        raise TokenRefused("the token is malformed, or not signed by the key it should be") from None
    if "exp" in claims and claims["exp"] <= now:
        raise TokenRefused("the token is expired")
    return claims


def _object(part: str) -> dict[str, Any]:
    """Decode one part (RFC 7515 §2)."""
    try:
        found = json.loads(base64.urlsafe_b64decode(part.encode("ascii") + b"=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        raise TokenRefused("the token is malformed") from None
    if not isinstance(found, dict):
        raise TokenRefused("the token is malformed")
    return found
