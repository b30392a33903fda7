"""Who a client is: names derived from its SSH public key."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Self

from tunnel_server.domain.errors import InvalidPublicKey

_ID_SHAPE = re.compile(r"[A-Za-z0-9_-]{1,32}")
_URN = "urn:ietf:params:oauth:jwk-thumbprint:sha-256:"
_URN_SHAPE = re.compile(re.escape(_URN) + r"[A-Za-z0-9_-]{43}")

# curve name in SSH → name as a JWK, octets of a coordinate (RFC 5656 §3.1, RFC 7518 §6.2.1.1)
_CURVES = {b"nistp256": ("P-256", 32), b"nistp384": ("P-384", 48), b"nistp521": ("P-521", 66)}
_MAX_RSA = 16384 // 8  # octets of a modulus


@dataclass(frozen=True, slots=True)
class ClientId:
    """A short public name for one SSH key; equal keys give equal ids, and so may others."""

    value: str

    def __post_init__(self) -> None:
        if not _ID_SHAPE.fullmatch(self.value):
            raise ValueError(f"not a client id: {self.value!r}")

    def __str__(self) -> str:
        return self.value

    @classmethod
    def from_public_key(cls, blob: bytes) -> Self:
        """Derive the id from a key in SSH wire format (RFC 4253 §6.6)."""
        digest = base64.urlsafe_b64encode(hashlib.sha1(blob, usedforsecurity=False).digest()).decode("ascii")
        return cls(re.sub(r"[-_=]", "", digest)[:8].lower())


@dataclass(frozen=True, slots=True)
class Thumbprint:
    """The name of a client's profile: its key's JWK thumbprint as a URN (RFC 7638, RFC 9278)."""

    value: str

    def __post_init__(self) -> None:
        if not _URN_SHAPE.fullmatch(self.value):
            raise ValueError(f"not a key thumbprint: {self.value!r}")

    def __str__(self) -> str:
        return self.value

    @classmethod
    def from_public_key(cls, blob: bytes) -> Self:
        """Derive the thumbprint from a key in SSH wire format; of a security key, from the key inside.

        Raises:
            InvalidPublicKey: the blob is malformed, or of a type without a JWK.
        """
        members = json.dumps(_jwk(blob), separators=(",", ":"), sort_keys=True)
        return cls(_URN + _base64url(hashlib.sha256(members.encode("ascii")).digest()))


class _Reader:
    """Reads SSH strings (RFC 4251 §5) and refuses what is cut short."""

    def __init__(self, blob: bytes) -> None:
        self._blob = blob
        self._at = 0

    def string(self) -> bytes:
        start = self._at + 4
        end = start + int.from_bytes(self._blob[self._at : start], "big")
        if start > len(self._blob) or end > len(self._blob):
            raise InvalidPublicKey("the key is cut short")
        self._at = end
        return self._blob[start:end]

    def positive(self) -> bytes:
        """Read an mpint greater than zero, as its shortest big-endian octets."""
        octets = self.string()
        if not octets or octets[0] & 0x80 or (octets[0] == 0 and (len(octets) < 2 or not octets[1] & 0x80)):
            raise InvalidPublicKey("a number of the key is not positive or not in its shortest form")
        if len(octets) > _MAX_RSA + 1:
            raise InvalidPublicKey("a number of the key is too long")
        return octets.lstrip(b"\0")

    def end(self) -> None:
        if self._at != len(self._blob):
            raise InvalidPublicKey("the key has bytes after its end")


def _jwk(blob: bytes) -> dict[str, str]:
    reader = _Reader(blob)
    kind = reader.string()
    match kind:
        case b"ssh-ed25519" | b"sk-ssh-ed25519@openssh.com":
            key = _ed25519(reader)
        case b"ssh-rsa":
            key = {"kty": "RSA", "e": _base64url(reader.positive()), "n": _base64url(reader.positive())}
        case b"ecdsa-sha2-nistp256" | b"ecdsa-sha2-nistp384" | b"ecdsa-sha2-nistp521":
            key = _ecdsa(reader, kind.removeprefix(b"ecdsa-sha2-"))
        case b"sk-ecdsa-sha2-nistp256@openssh.com":
            key = _ecdsa(reader, b"nistp256")
        case _:
            raise InvalidPublicKey(f"keys of type {kind[:40]!r} are not served")
    if kind.startswith(b"sk-"):
        reader.string()  # the application, no part of the key
    reader.end()
    return key


def _ed25519(reader: _Reader) -> dict[str, str]:
    point = reader.string()
    if len(point) != 32:
        raise InvalidPublicKey("an Ed25519 key has 32 octets")
    return {"kty": "OKP", "crv": "Ed25519", "x": _base64url(point)}


def _ecdsa(reader: _Reader, curve: bytes) -> dict[str, str]:
    name, size = _CURVES[curve]
    if reader.string() != curve:
        raise InvalidPublicKey("the key names another curve than its type")
    point = reader.string()
    if len(point) != 1 + 2 * size or point[0] != 4:  # SEC 1 §2.3.3, uncompressed
        raise InvalidPublicKey("the key's point is not an uncompressed one of its curve")
    return {"kty": "EC", "crv": name, "x": _base64url(point[1 : 1 + size]), "y": _base64url(point[1 + size :])}


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")
