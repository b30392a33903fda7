"""A certificate's chain and key as text (RFC 7468), checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from tunnel_server.domain.certificates import covered
from tunnel_server.domain.errors import InvalidCertificate

MAX_CHAIN = 16  # certificates; every handshake sends them all

_BEGIN, _END, _DASHES = b"-----BEGIN ", b"-----END ", b"-----"
_KINDS = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


@dataclass(frozen=True, slots=True)
class Pem:
    """The texts of a chain, the server's own certificate first, and of its key; and what people know them by."""

    source: str
    chain: bytes
    key: bytes = field(repr=False)
    chain_name: str
    key_name: str


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a checked text says. ``normal`` is the chain and the key, and nothing else that stood in the files."""

    names: tuple[str, ...]
    not_before: float
    not_after: float
    fingerprint: str
    normal: bytes = field(repr=False)


def parse(pem: Pem) -> Leaf:
    """Return what ``pem`` says. Text around the blocks and blocks of other kinds do not matter.

    Raises:
        InvalidCertificate: there is no certificate or key, it is malformed or encrypted, or they do not match.
    """
    chain = _chain(pem)
    key = _key(pem)
    leaf = chain[0]
    _match(pem, chain, key)
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns = names.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        dns = []  # the subject's common name says nothing any more, RFC 9525 §2
    except Exception as error:  # cryptography knows several kinds of malformed
        raise InvalidCertificate(f"{pem.chain_name}: the names in the certificate are malformed: {error}") from None
    return Leaf(
        covered(dns),
        leaf.not_valid_before_utc.timestamp(),
        leaf.not_valid_after_utc.timestamp(),
        leaf.fingerprint(SHA256()).hex(),
        b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain) + _plain(key),
    )


def _chain(pem: Pem) -> list[x509.Certificate]:
    blocks = [block for label, block in _blocks(pem.chain, pem.chain_name) if label == b"CERTIFICATE"]
    if not blocks:
        raise InvalidCertificate(f"{pem.chain_name}: holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
    if len(blocks) > MAX_CHAIN:
        raise InvalidCertificate(f"{pem.chain_name}: holds {len(blocks)} certificates, more than {MAX_CHAIN}")
    chain = []
    for number, block in enumerate(blocks, 1):
        try:
            chain.append(x509.load_pem_x509_certificate(block))
        except ValueError:
            raise InvalidCertificate(f"{pem.chain_name}: certificate {number} in it is malformed") from None
    return chain


def _key(pem: Pem) -> _KINDS:
    found = next(
        ((label, block) for label, block in _blocks(pem.key, pem.key_name) if label.endswith(b"PRIVATE KEY")), None
    )
    if found is None:
        raise InvalidCertificate(f"{pem.key_name}: holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)")
    label, block = found
    if label == b"ENCRYPTED PRIVATE KEY" or b"Proc-Type: 4,ENCRYPTED" in block:
        raise InvalidCertificate(f"{pem.key_name}: the key is encrypted; `openssl pkey` decrypts it")
    try:
        key = serialization.load_pem_private_key(block, None)
    except Exception as error:  # besides ValueError, exceptions of its own for algorithms it does not know
        raise InvalidCertificate(f"{pem.key_name}: the key is malformed, or of an unknown kind") from error
    if not isinstance(key, _KINDS):
        raise InvalidCertificate(f"{pem.key_name}: the key is of a kind that TLS does not use")
    return key


def _match(pem: Pem, chain: list[x509.Certificate], key: _KINDS) -> None:
    own = _public(key)
    try:
        matches = [_public(certificate) == own for certificate in chain]
    except Exception as error:  # as above
        raise InvalidCertificate(f"{pem.chain_name}: a certificate's key is of an unknown kind") from error
    if matches[0]:
        return
    if any(matches):
        raise InvalidCertificate(f"{pem.chain_name}: the server's own certificate has to be the first in it")
    raise InvalidCertificate(f"{pem.key_name}: the key is not that of the certificate {pem.chain_name}")


def _public(holder: x509.Certificate | _KINDS) -> bytes:
    return holder.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _plain(key: _KINDS) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _blocks(text: bytes, name: str) -> Iterator[tuple[bytes, bytes]]:
    """Give the label and the whole of each block that has an end.

    Raises:
        InvalidCertificate: a certificate or a key has none, since the file is half written.
    """
    begin = text.find(_BEGIN)
    while begin >= 0:
        following = text.find(_BEGIN, begin + len(_BEGIN))
        piece = text[begin:] if following < 0 else text[begin:following]
        label = piece[len(_BEGIN) : len(_BEGIN) + 80].partition(_DASHES)[0]
        body, end, _ = piece.partition(_END + label + _DASHES)
        if end:
            yield label, body + end + b"\n"
        elif label == b"CERTIFICATE" or label.endswith(b"PRIVATE KEY"):
            raise InvalidCertificate(f"{name}: is cut off: a -----BEGIN {label.decode('latin-1')}----- has no end")
        begin = following
