"""JSON Web Tokens that somebody's key has signed; imported when the first one comes, for the library's weight."""

from __future__ import annotations

from typing import Any

from joserfc import jwt
from joserfc.errors import ClaimError, ExpiredTokenError, JoseError, UnsupportedAlgorithmError
from joserfc.jws import JWSRegistry

from tunnel_server.house.private_tunnels.keys import VerificationKey
from tunnel_server.house.private_tunnels.tokens import MAX_TOKEN, TokenRefused

LEEWAY = 5  # seconds that the issuer's clock may be ahead


class _Algorithms(JWSRegistry):
    """Knows the algorithms of one key. They are fixed by the key, so no warning of a broad name is due (RFC 9864)."""

    max_header_length = MAX_TOKEN
    max_payload_length = MAX_TOKEN
    max_signature_length = MAX_TOKEN  # an RSA key of 8192 bits has more than the library's 1024 characters

    def get_alg(self, name: str) -> Any:
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError("the algorithm is not one of the key's")
        return self.algorithms[name]


def verified(token: str, key: VerificationKey, now: float) -> dict[str, Any]:
    """Return the claims of a token that :func:`~.tokens.issuer` has seen and ``key`` has signed, valid at ``now``.

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
