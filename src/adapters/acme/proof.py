"""What a CA asks as a proof of control over a host (RFC 8555 §8), and what is answered."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from tunnel_server.adapters.acme.options import ALPN, HTTP
from tunnel_server.adapters.acme.pair import key_pem, new_key

HTTP_PATH = "/.well-known/acme-challenge/"  # RFC 8555 §8.3
_ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")  # RFC 8737 §6.1
_OCTET_STRING_OF_32 = b"\x04\x20"  # its DER tag and length


@dataclass(frozen=True, slots=True)
class Proof:
    """One challenge to answer. ``url`` is its own, ``authorization`` that of what it is part of."""

    kind: str
    host: str  # without the asterisk
    token: str
    key_authorization: str
    url: str
    authorization: str

    @property
    def dns_name(self) -> str:
        """The name of the TXT record (RFC 8555 §8.4)."""
        return f"_acme-challenge.{self.host}"

    @property
    def dns_value(self) -> str:
        """The content of the TXT record."""
        return base64.urlsafe_b64encode(self._digest()).rstrip(b"=").decode("ascii")

    def alpn_certificate(self) -> tuple[bytes, bytes]:
        """Return the certificate that proves it, and its key, as PEM (RFC 8737 §3)."""
        key = new_key()
        name = x509.Name([])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=7))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(self.host)]), critical=True)
            .add_extension(
                x509.UnrecognizedExtension(_ACME_IDENTIFIER, _OCTET_STRING_OF_32 + self._digest()), critical=True
            )
            .sign(key, hashes.SHA256())
        )
        return certificate.public_bytes(Encoding.PEM), key_pem(key)

    def _digest(self) -> bytes:
        return hashlib.sha256(self.key_authorization.encode("ascii")).digest()


class Answers:
    """The answers that the ports give while challenges are open. Every look-up takes constant time."""

    def __init__(self) -> None:
        self._http: dict[str, bytes] = {}
        self._alpn: dict[str, tuple[bytes, bytes]] = {}

    @property
    def pending_alpn(self) -> bool:
        """Whether a TLS-ALPN-01 challenge is open."""
        return bool(self._alpn)

    def http(self, path: str) -> bytes | None:
        """Return the body for a path, its query cut off; ``None`` if it is no open challenge's."""
        if not self._http or not path.startswith(HTTP_PATH):
            return None
        return self._http.get(path[len(HTTP_PATH) :])

    def alpn(self, server_name: str) -> tuple[bytes, bytes] | None:
        """Return the chain and the key for a server name, as PEM."""
        return self._alpn.get(server_name.lower()) if self._alpn else None

    def give(self, proof: Proof) -> None:
        """Answer from now on; nothing is done for DNS-01."""
        if proof.kind == HTTP:
            self._http[proof.token] = proof.key_authorization.encode("ascii")
        elif proof.kind == ALPN:
            self._alpn[proof.host] = proof.alpn_certificate()

    def withdraw(self, proof: Proof) -> None:
        """Answer no more. Safe to repeat."""
        self._http.pop(proof.token, None)
        self._alpn.pop(proof.host, None)
