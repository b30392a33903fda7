"""Which ciphers, and what goes with them, to offer a client, knowing which it lists.

The client's order decides (RFC 4253 §7.1), and OpenSSH lists ChaCha20 and AES-CTR before AES-GCM, which is the
quicker by a third. A server gets AES-GCM all the same by offering nothing that the client lists before it.
"""

from __future__ import annotations

from collections.abc import Sequence

AES_GCM = (b"aes128-gcm@openssh.com", b"aes256-gcm@openssh.com")
CHACHA20 = (b"chacha20-poly1305@openssh.com",)
AES_CTR = (b"aes128-ctr", b"aes192-ctr", b"aes256-ctr")

EVERY = (*AES_GCM, *CHACHA20, *AES_CTR)  # the server's own order, where it speaks first


# Key exchanges on Curve25519, post-quantum hybrids first: OpenSSH has had it since 6.5 (2014). Finite-field groups
# would cost the server many times as much for each stranger who connects.
EXCHANGES = (
    b"mlkem768x25519-sha256",
    b"sntrup761x25519-sha512@openssh.com",
    b"curve25519-sha256",
    b"curve25519-sha256@libssh.org",
)
NIST_EXCHANGES = (b"ecdh-sha2-nistp256", b"ecdh-sha2-nistp384", b"ecdh-sha2-nistp521")

# Only for AES-CTR, since the other ciphers authenticate by themselves: encrypt-then-MAC, tags of 128 bits and more.
MACS = (b"umac-128-etm@openssh.com", b"hmac-sha2-256-etm@openssh.com", b"hmac-sha2-512-etm@openssh.com")
OLDER_MACS = (b"hmac-sha2-256", b"hmac-sha2-512")


def offer_exchanges(listed: Sequence[bytes]) -> list[bytes]:
    """Return what to offer a client that lists ``listed``: NIST's curves only to one that has no other (FIPS 140)."""
    return list(EXCHANGES if not {*EXCHANGES}.isdisjoint(listed) else (*EXCHANGES, *NIST_EXCHANGES))


def offer_macs(to_server: Sequence[bytes], to_client: Sequence[bytes]) -> list[bytes]:
    """Return what to offer a client that lists ``to_server`` and ``to_client``: MACs of the plain text only to one
    that has no other, since then an attacker's bytes are decrypted before they are checked.
    """
    modern = not {*MACS}.isdisjoint(to_server) and not {*MACS}.isdisjoint(to_client)
    return list(MACS if modern else (*MACS, *OLDER_MACS))


def offer(to_server: Sequence[bytes], to_client: Sequence[bytes]) -> list[bytes]:
    """Return what to offer a client that lists ``to_server`` and ``to_client``, one list a direction.

    The quickest family of which the client has one in both directions; all that the server has, where it has none.
    """
    for family in (AES_GCM, CHACHA20):
        if not {*family}.isdisjoint(to_server) and not {*family}.isdisjoint(to_client):
            return list(family)
    return list(EVERY)
