"""What a hostile TLS 1.3 client sends: records made by hand, which no library would send."""

from __future__ import annotations

import hmac
import ssl
import struct
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

DATA, HANDSHAKE = 23, 22


class Records:
    """Goes on where a client's handshake ended; its context has to log its keys to ``key_log``."""

    def __init__(self, tls: ssl.SSLObject, key_log: Path) -> None:
        cipher = tls.cipher()
        assert cipher is not None
        assert "GCM" in cipher[0]
        self._hash, self._size = ("sha384", 32) if cipher[0].endswith("SHA384") else ("sha256", 16)
        lines = [line.split() for line in key_log.read_text().splitlines()]
        self._use(next(bytes.fromhex(words[2]) for words in lines if words[0] == "CLIENT_TRAFFIC_SECRET_0"))

    def record(self, data: bytes, kind: int = DATA) -> bytes:
        """Return one record that carries ``data``."""
        payload = data + bytes([kind])
        head = struct.pack(">BHH", DATA, 0x0303, len(payload) + 16)
        nonce = (int.from_bytes(self._iv, "big") ^ self._number).to_bytes(12, "big")
        self._number += 1
        return head + self._key.encrypt(nonce, payload, head)

    def key_update(self, *, answered: bool = True) -> bytes:
        """Return a KeyUpdate (RFC 8446 §4.6.3); the server has to answer it with its own, if ``answered``."""
        update = self.record(bytes([24, 0, 0, 1, answered]), HANDSHAKE)
        self._use(self._expand(b"traffic upd", len(self._secret)))
        return update

    def _use(self, secret: bytes) -> None:
        self._secret = secret
        self._key = AESGCM(self._expand(b"key", self._size))
        self._iv = self._expand(b"iv", 12)
        self._number = 0

    def _expand(self, label: bytes, size: int) -> bytes:
        label = b"tls13 " + label
        info = struct.pack(">HB", size, len(label)) + label + b"\0\1"
        return hmac.new(self._secret, info, self._hash).digest()[:size]
