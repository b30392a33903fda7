"""The two AEAD ciphers of SSH, each with its contexts kept for the life of a key.

asyncssh builds one to four OpenSSL contexts a packet, which costs more than the cipher itself. These take the
place of its own cipher objects: they serve its packet path as well as the lean one, from one packet counter.
"""

from __future__ import annotations

from abc import abstractmethod
from struct import Struct

from asyncssh.encryption import Encryption
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.poly1305 import Poly1305

TAG = 16  # bytes at the end of each packet, of either cipher

_LENGTH = Struct(">I").unpack_from
_GCM_NONCE = Struct(">4sQ").pack
_CHACHA_NONCE = Struct("<QQ").pack  # OpenSSL's form: a block counter, and the nonce
_WRAP = (1 << 64) - 1
_KEY_BLOCK = bytes(64)  # the first block of the stream makes the Poly1305 key, the rest encrypts

Buffer = bytes | bytearray | memoryview


class PacketCipher(Encryption):
    """Seals and opens whole packets of one direction; not the same object for both."""

    block: int  # bytes that a packet's length, its own field apart, is a multiple of
    shortest: int  # bytes of the least that asyncssh takes for a packet, its length field apart

    @abstractmethod
    def seal(self, sequence: int, header: bytes, body: bytes) -> tuple[bytes, bytes]:
        """Return the packet in two pieces: its header as it is sent, and the rest with the tag."""

    @abstractmethod
    def length(self, sequence: int, data: Buffer, at: int) -> int:
        """Return what a packet's length field says, which nobody has vouched for yet."""

    @abstractmethod
    def open(self, sequence: int, data: memoryview, at: int, end: int) -> bytes | None:
        """Return the packet at ``data[at:end]`` without its length field, or ``None`` if it is forged."""

    # asyncssh's packet path calls these

    def encrypt_packet(self, seq: int, header: bytes, packet: bytes) -> tuple[bytes, bytes]:
        first, rest = self.seal(seq, header, packet)
        return first + rest, b""

    def decrypt_header(self, seq: int, first_block: bytes, header_len: int) -> tuple[bytes, bytes]:
        return first_block, self.length(seq, first_block, 0).to_bytes(4, "big")

    def decrypt_packet(self, seq: int, first: bytes, rest: bytes, header_len: int, mac: bytes) -> bytes | None:
        whole = first + rest + mac
        return self.open(seq, memoryview(whole), 0, len(whole))


class GcmCipher(PacketCipher):
    """``aes128-gcm@openssh.com`` and ``aes256-gcm@openssh.com`` (RFC 5647); the length is authenticated, not hidden."""

    block = 16
    shortest = 12

    def __init__(self, key: bytes, iv: bytes) -> None:
        self._aead = AESGCM(key)
        self._fixed = iv[:4]
        self._invocation = int.from_bytes(iv[4:], "big")

    def _nonce(self) -> bytes:
        invocation = self._invocation
        self._invocation = (invocation + 1) & _WRAP
        return _GCM_NONCE(self._fixed, invocation)

    def seal(self, sequence: int, header: bytes, body: bytes) -> tuple[bytes, bytes]:
        return header, self._aead.encrypt(self._nonce(), body, header)

    def length(self, sequence: int, data: Buffer, at: int) -> int:
        return int(_LENGTH(data, at)[0])

    def open(self, sequence: int, data: memoryview, at: int, end: int) -> bytes | None:
        body = at + 4
        try:
            return self._aead.decrypt(self._nonce(), data[body:end], data[at:body])
        except InvalidTag:
            return None


class ChachaCipher(PacketCipher):
    """``chacha20-poly1305@openssh.com`` (OpenSSH's PROTOCOL.chacha20poly1305): lengths have a key of their own."""

    block = 8
    shortest = 4

    def __init__(self, key: bytes, length_key: bytes) -> None:
        self._main = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
        self._lengths = Cipher(ChaCha20(length_key, bytes(16)), mode=None).encryptor()

    def _start(self, sequence: int) -> bytes:
        """Set the main stream to the packet's beginning; return the packet's Poly1305 key."""
        self._main.reset_nonce(_chacha_nonce(sequence))
        return self._main.update(_KEY_BLOCK)[:32]

    def seal(self, sequence: int, header: bytes, body: bytes) -> tuple[bytes, bytes]:
        self._lengths.reset_nonce(_chacha_nonce(sequence))
        key = self._start(sequence)
        first, rest = self._lengths.update(header), self._main.update(body)
        mac = Poly1305(key)
        mac.update(first)
        mac.update(rest)
        return first, rest + mac.finalize()

    def length(self, sequence: int, data: Buffer, at: int) -> int:
        self._lengths.reset_nonce(_chacha_nonce(sequence))
        return int.from_bytes(self._lengths.update(data[at : at + 4]), "big")

    def open(self, sequence: int, data: memoryview, at: int, end: int) -> bytes | None:
        tag_at = end - TAG
        mac = Poly1305(self._start(sequence))
        mac.update(data[at:tag_at])
        try:
            mac.verify(bytes(data[tag_at:end]))
        except InvalidSignature:
            return None
        return self._main.update(data[at + 4 : tag_at])


def _chacha_nonce(sequence: int) -> bytes:
    return _CHACHA_NONCE(0, int.from_bytes(sequence.to_bytes(8, "big"), "little"))
