"""Which ciphers to offer a client, knowing which it lists.

The client's order decides (RFC 4253 §7.1), and OpenSSH lists ChaCha20 and AES-CTR before AES-GCM, which is the
quicker by a third. A server gets AES-GCM all the same by offering nothing that the client lists before it.
"""

from __future__ import annotations

from collections.abc import Sequence

AES_GCM = (b"aes128-gcm@openssh.com", b"aes256-gcm@openssh.com")
CHACHA20 = (b"chacha20-poly1305@openssh.com",)
AES_CTR = (b"aes128-ctr", b"aes192-ctr", b"aes256-ctr")

EVERY = (*AES_GCM, *CHACHA20, *AES_CTR)  # the server's own order, where it speaks first


def offer(to_server: Sequence[bytes], to_client: Sequence[bytes]) -> list[bytes]:
    """Return what to offer a client that lists ``to_server`` and ``to_client``, one list a direction.

    The quickest family of which the client has one in both directions; all that the server has, where it has none.
    """
    for family in (AES_GCM, CHACHA20):
        if not {*family}.isdisjoint(to_server) and not {*family}.isdisjoint(to_client):
            return list(family)
    return list(EVERY)
