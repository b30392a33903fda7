"""Keys that verify tokens, and the algorithms that each is good for."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
    load_ssh_public_key,
)

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, OKPKey, RSAKey

# RFC 7518 §3.3 asks for 2048 bits. An exponent of 33 bits keeps a hostile key's verification as quick as any other's.
MIN_RSA, MAX_RSA = 2048, 8192
MAX_EXPONENT = 33

RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
ED25519 = frozenset({"EdDSA", "Ed25519"})  # RFC 8037 §3.1 and, the same thing, RFC 9864 §2.2
CURVES = {  # RFC 7518 §3.4
    "secp256r1": frozenset({"ES256"}),
    "secp384r1": frozenset({"ES384"}),
    "secp521r1": frozenset({"ES512"}),
}
# Security keys are left out: what they sign is never a token alone (OpenSSH's PROTOCOL.u2f).
SSH_TYPES = frozenset(
    {b"ssh-ed25519", b"ssh-rsa", b"ecdsa-sha2-nistp256", b"ecdsa-sha2-nistp384", b"ecdsa-sha2-nistp521"}
)


class Unusable(ValueError):
    """A key is malformed, or of a kind that verifies no tokens."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key. ``algorithms`` are those of its type (RFC 7518 §3.1): a token has no say in the matter."""

    key: RSAKey | ECKey | OKPKey
    algorithms: frozenset[str]


@lru_cache(maxsize=1024)
def of_ssh(blob: bytes) -> VerificationKey:
    """Return the key of an SSH public key in wire format (RFC 4253 §6.6).

    Raises:
        Unusable: it is malformed, a security key, too weak or too slow.
    """
    kind = blob[4 : 4 + int.from_bytes(blob[:4], "big")] if len(blob) < 1 << 16 else b""
    if kind not in SSH_TYPES:
        raise Unusable("an SSH key of this type cannot sign tokens")
    try:
        return _of(load_ssh_public_key(kind + b" " + base64.b64encode(blob)))
    except Unusable:
        raise
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unusable("the SSH key cannot be read") from None


def of_pem(text: str) -> VerificationKey:
    """Return the key of PEM text.

    Raises:
        Unusable: it is malformed, a private key, of another type, too weak or too slow.
    """
    if "PRIVATE KEY" in text:
        raise Unusable("is a private key, where the public one belongs")
    try:
        return _of(load_pem_public_key(text.encode("ascii")))
    except Unusable:
        raise
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unusable("is not PEM text with a public key") from None


def _of(key: Any) -> VerificationKey:
    from joserfc.jwk import ECKey, OKPKey, RSAKey  # only a server that verifies tokens pays for it

    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    match key:
        case ed25519.Ed25519PublicKey():
            return VerificationKey(OKPKey.import_key(pem), ED25519)
        case ec.EllipticCurvePublicKey() if key.curve.name in CURVES:
            return VerificationKey(ECKey.import_key(pem), CURVES[key.curve.name])
        case rsa.RSAPublicKey():
            if not MIN_RSA <= key.key_size <= MAX_RSA or key.public_numbers().e.bit_length() > MAX_EXPONENT:
                raise Unusable(f"is an RSA key of less than {MIN_RSA} or more than {MAX_RSA} bits, or an odd exponent")
            return VerificationKey(RSAKey.import_key(pem), RSA)
        case _:
            raise Unusable("is a key of a type that signs no tokens")
