"""A certificate's chain with its key: made, checked, and read back."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

_KEY_END = b"-----END PRIVATE KEY-----\n"


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a new key on P-256, which every CA and every client knows."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return ``key`` as PEM, not encrypted (PKCS #8)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Read a key on P-256.

    Raises:
        ValueError: it is none.
    """
    try:
        key = load_pem_private_key(pem, None)
    except (TypeError, UnsupportedAlgorithm) as error:  # it is encrypted, or unknown
        raise ValueError(str(error)) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a key on P-256")
    return key


def signing_request(host: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the request that a CA signs, as PEM (RFC 2986)."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    names = x509.SubjectAlternativeName([x509.DNSName(host)])
    return builder.add_extension(names, critical=False).sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


@dataclass(frozen=True, slots=True)
class Pair:
    """A chain, its own certificate first, and that one's key, both as PEM; the times are Unix seconds."""

    chain: bytes
    key: bytes
    not_before: float
    not_after: float

    @classmethod
    def check(cls, host: str, chain: bytes, key: bytes) -> Self:
        """Take a chain for ``host``; anything in it that is no certificate is left out.

        Raises:
            ValueError: saying what is wrong with it. Its dates are not looked at.
        """
        certificates = x509.load_pem_x509_certificates(chain)
        own = certificates[0]
        if _public(own) != _spki(read_key(key).public_key()):
            raise ValueError("the certificate is not for this key")
        if host not in _names(own):
            raise ValueError("the certificate is not for this host")
        clean = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
        return cls(clean, key, own.not_valid_before_utc.timestamp(), own.not_valid_after_utc.timestamp())

    def to_file(self) -> bytes:
        """Return both in one piece, so that one rename replaces both, behind a line with their digest."""
        return _seal(self.key + self.chain) + self.key + self.chain

    @classmethod
    def from_file(cls, host: str, content: bytes) -> Self:
        """Read what :meth:`to_file` gave.

        Raises:
            ValueError: it is damaged, or for another host.
        """
        seal, end, pem = content.partition(b"\n")
        if seal + end != _seal(pem):
            raise ValueError("it is not as it was written")
        key, end, chain = pem.partition(_KEY_END)
        return cls.check(host, chain, key + end)


def _seal(pem: bytes) -> bytes:
    return b"sha256 " + hashlib.sha256(pem).hexdigest().encode() + b"\n"


def _public(certificate: x509.Certificate) -> bytes:
    try:
        key = certificate.public_key()
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("the certificate's key is of another kind")
    return _spki(key)


def _spki(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise ValueError(str(error)) from None
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]
