"""Which ciphers real clients get, and that changing keys loses nothing."""

from __future__ import annotations

import asyncio
import hashlib
import os
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncssh
import pytest
from asyncssh.constants import MSG_KEXINIT
from asyncssh.packet import Boolean, Byte, NameList, SSHPacket, UInt32
from rig import LIMIT, Rig, Service, need, plain, until

from tunnel_server.adapters.ssh import listener
from tunnel_server.adapters.ssh.aead import PacketCipher
from tunnel_server.adapters.ssh.connection import Connection
from tunnel_server.adapters.ssh.offer import PATIENCE
from tunnel_server.domain.ciphers import AES_CTR, AES_GCM, CHACHA20, EVERY, MACS

MIB = 1 << 20


@asynccontextmanager
async def running(*command: str, **options: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a client until the block ends."""
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, **options)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        async with asyncio.timeout(LIMIT):
            await process.communicate()


async def logged_in(rig: Rig) -> Connection:
    """Return the connection of the one client, once it has logged in."""
    owner = await until(lambda: next((owner for owner in rig.ssh._lobby.owners if owner.client), None))
    connection: Connection = owner.connection
    return connection


def cipher(connection: Connection) -> str:
    return str(connection.get_extra_info("send_cipher"))


# real clients


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ((), "aes128-gcm@openssh.com"),
        (("-c", "chacha20-poly1305@openssh.com,aes256-gcm@openssh.com"), "aes256-gcm@openssh.com"),
        (("-c", "chacha20-poly1305@openssh.com,aes128-ctr"), "chacha20-poly1305@openssh.com"),
        (("-c", "aes256-ctr,aes128-ctr"), "aes256-ctr"),
    ],
)
async def test_openssh_gets_the_quickest_cipher_it_has(
    rig: Rig, options: tuple[str, ...], chosen: str, lean_ssh: bool
) -> None:
    async with running(*rig.openssh(options=("-N", *options))):
        connection = await logged_in(rig)

        assert cipher(connection) == chosen
        assert isinstance(connection._recv_encryption, PacketCipher) == (lean_ssh and not chosen.endswith("ctr"))


async def test_putty_gets_aes_gcm_if_it_is_new_enough_and_chacha20_if_not(rig: Rig) -> None:
    key = rig.key()
    async with running(need("puttygen"), str(key), "-O", "private", "-o", str(rig.folder / "id.ppk")) as conversion:
        assert await conversion.wait() == 0, "an OpenSSH key for PuTTY"
    command = [need("plink"), "-ssh", "-batch", "-N", "-i", str(rig.folder / "id.ppk"), "-P", str(rig.ssh.port)]
    host_key = rig.container.ssh()._host_key[0].read_bytes()
    fingerprint = asyncssh.import_private_key(host_key).get_fingerprint()

    async with running(*command, "-hostkey", fingerprint, "env@127.0.0.1", env=os.environ | {"HOME": str(rig.folder)}):
        assert cipher(await logged_in(rig)).encode() in AES_GCM + CHACHA20


async def test_dropbear_gets_chacha20(rig: Rig) -> None:
    key = rig.key()
    folder = rig.folder
    async with running(need("dropbearconvert"), "openssh", "dropbear", str(key), str(folder / "db")) as conversion:
        assert await conversion.wait() == 0, "an OpenSSH key for dropbear"
    command = [need("dbclient"), "-y", "-y", "-N", "-i", str(folder / "db"), "-p", str(rig.ssh.port), "env@127.0.0.1"]

    async with running(*command, env=os.environ | {"HOME": str(folder)}):
        assert cipher(await logged_in(rig)).encode() in CHACHA20


# a client of which we see every byte


def kexinit(
    ciphers: list[bytes], exchanges: tuple[bytes, ...] = (b"curve25519-sha256",), macs: tuple[bytes, ...] = MACS
) -> bytes:
    """Return a KEXINIT as a client sends it first, in the clear (RFC 4253 §6, §7.1)."""
    lists = [[*exchanges], [b"ssh-ed25519"], ciphers, ciphers, [*macs], [*macs]]
    lists += [[b"none"], [b"none"], [], []]
    payload = Byte(MSG_KEXINIT) + bytes(16) + b"".join(map(NameList, lists)) + Boolean(False) + UInt32(0)
    padding = 8 - (len(payload) + 5) % 8 + 8
    return UInt32(len(payload) + 1 + padding) + Byte(padding) + payload + bytes(padding)


async def offered(rig: Rig, *sent: bytes) -> list[bytes]:
    """Return the ciphers that the server's KEXINIT lists for a client that has sent ``sent``."""
    return (await proposed(rig, *sent))[2]


async def proposed(rig: Rig, *sent: bytes) -> list[list[bytes]]:
    """Return the lists of the server's KEXINIT for a client that has sent ``sent``."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.ssh.port)
    try:
        async with asyncio.timeout(LIMIT):
            for part in sent:
                writer.write(part)
            await reader.readuntil(b"\r\n")
            size = int.from_bytes(await reader.readexactly(4), "big")
            body = await reader.readexactly(size)
    finally:
        writer.close()
    packet = SSHPacket(body[1:])
    assert packet.get_byte() == MSG_KEXINIT
    packet.get_bytes(16)
    lists = [list(packet.get_namelist()) for _ in range(10)]
    assert b"kex-strict-s-v00@openssh.com" in lists[0]
    return lists


@pytest.mark.parametrize(
    ("listed", "has_nist"),
    [
        ((b"curve25519-sha256", b"ecdh-sha2-nistp256"), False),
        ((b"ecdh-sha2-nistp256", b"diffie-hellman-group14-sha256"), True),
    ],
)
async def test_nists_curves_are_offered_only_to_one_that_has_no_other(
    rig: Rig, listed: tuple[bytes, ...], has_nist: bool
) -> None:
    exchanges = (await proposed(rig, b"SSH-2.0-begins\r\n", kexinit([*AES_CTR], listed)))[0]

    assert (b"ecdh-sha2-nistp256" in exchanges) == has_nist
    assert b"curve25519-sha256" in exchanges


@pytest.mark.parametrize(
    ("listed", "has_older"),
    [((b"hmac-sha2-256", b"hmac-sha2-256-etm@openssh.com"), False), ((b"hmac-sha2-256", b"hmac-sha1"), True)],
)
async def test_macs_of_the_plain_text_are_offered_only_to_one_that_has_no_other(
    rig: Rig, listed: tuple[bytes, ...], has_older: bool
) -> None:
    lists = await proposed(rig, b"SSH-2.0-begins\r\n", kexinit([*AES_CTR], macs=listed))

    for macs in lists[4:6]:
        assert (b"hmac-sha2-256" in macs) == has_older
        assert b"hmac-sha1" not in macs


@pytest.mark.parametrize("mac", ["hmac-sha2-256", "hmac-sha2-256-etm@openssh.com"])
@pytest.mark.parametrize("exchange", ["ecdh-sha2-nistp256", "curve25519-sha256"])
async def test_openssh_logs_in_with_what_older_clients_have(rig: Rig, exchange: str, mac: str) -> None:
    options = ("-o", f"KexAlgorithms={exchange}", "-m", mac, "-c", "aes128-ctr")
    process = await asyncio.create_subprocess_exec(*rig.openssh("hello", options=options), stdout=-1)
    async with asyncio.timeout(LIMIT):
        out, _ = await process.communicate()

    assert process.returncode == 0
    assert b"clientId" in out


async def test_a_client_that_waits_for_our_offer_gets_all_of_it_after_a_while(rig: Rig) -> None:
    began = asyncio.get_running_loop().time()

    assert await offered(rig, b"SSH-2.0-waits\r\n") == list(EVERY)
    assert PATIENCE <= asyncio.get_running_loop().time() - began + 0.01 < PATIENCE + 1


@pytest.mark.parametrize(
    ("listed", "answer"),
    [
        ([b"chacha20-poly1305@openssh.com", b"aes128-ctr", b"aes256-gcm@openssh.com"], list(AES_GCM)),
        ([b"aes128-ctr", b"chacha20-poly1305@openssh.com"], list(CHACHA20)),
        ([b"aes128-cbc", b"aes192-ctr"], list(EVERY)),
        ([], list(EVERY)),
    ],
)
async def test_the_offer_holds_nothing_that_the_client_lists_before_the_best(
    rig: Rig, listed: list[bytes], answer: list[bytes]
) -> None:
    assert await offered(rig, b"SSH-2.0-begins\r\n", kexinit(listed)) == answer


async def test_a_fixed_list_is_offered_whatever_ciphers_the_client_has(make_rig: Callable[..., Any]) -> None:
    async with make_rig(ssh_ciphers=("aes256-ctr", "aes128-gcm@openssh.com")) as rig:
        nist = kexinit([*AES_GCM], (b"ecdh-sha2-nistp256",))
        lists = await proposed(rig, b"SSH-2.0-begins\r\n", nist)

        assert lists[2] == [b"aes256-ctr", b"aes128-gcm@openssh.com"]
        assert b"ecdh-sha2-nistp256" in lists[0]


async def test_a_client_on_a_long_link_gets_an_offer_made_for_it(rig: Rig) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.ssh.port)
    writer.write(b"SSH-2.0-far-away\r\n")
    await reader.readuntil(b"\r\n")
    await asyncio.sleep(0.7)  # a round trip to a satellite
    writer.write(kexinit([*AES_CTR], (b"ecdh-sha2-nistp256",)))
    async with asyncio.timeout(LIMIT):
        size = int.from_bytes(await reader.readexactly(4), "big")
        body = await reader.readexactly(size)
    writer.close()

    assert b"ecdh-sha2-nistp256" in body


async def test_a_client_that_leaves_while_we_wait_for_its_offer_leaves_nothing(rig: Rig) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.ssh.port)
    writer.write(b"SSH-2.0-leaves\r\n")
    await reader.readuntil(b"\r\n")
    owner = await until(lambda: next(iter(rig.ssh._lobby.owners), None))
    await until(lambda: owner.connection._patience)

    writer.transport.abort()

    await until(lambda: not rig.ssh._lobby.owners)
    assert owner.connection._patience is None


# new keys while data flows


async def moves_intact(rig: Rig, host: str, size: int) -> bool:
    """Send ``size`` bytes to the service behind ``host`` and get them back; true if nothing changed."""
    visit = await rig.connect()
    sent = os.urandom(size)
    await visit.send("POST", "/", f"Host: {host}", f"Content-Length: {size}", body=sent)
    async with asyncio.timeout(3 * LIMIT):
        status, fields = await visit.head()
        got = await visit.reader.readexactly(int(dict(fields)["Content-Length"]))
    assert status == 200, got[:300]
    return hashlib.sha256(got).digest() == hashlib.sha256(sent).digest()


async def echoes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        writer.write(plain(await reader.readexactly(int(length.split()[1]))))
        await writer.drain()


CIPHERS = pytest.mark.parametrize("which", ["aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr"])


@CIPHERS
async def test_a_client_that_changes_keys_after_each_mebibyte_loses_nothing(rig: Rig, which: str) -> None:
    async with Service(echoes) as service:
        options = ("-N", "-c", which, "-o", "RekeyLimit=1M", "-R", f"/web:localhost:{service.port}")
        async with running(*rig.openssh(options=options)):
            await until(lambda: len(rig.registry) == 1)
            label = rig.registry.all()[0].label
            connection = await logged_in(rig)
            keys = connection._recv_encryption

            assert await moves_intact(rig, f"{label}.tunnels.test", 8 * MIB)
            assert connection._recv_encryption is not keys


@CIPHERS
async def test_keys_that_the_server_changes_lose_nothing(rig: Rig, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Service(echoes) as service:
        options = ("-N", "-c", which, "-R", f"/web:localhost:{service.port}")
        async with running(*rig.openssh(options=options)):
            await until(lambda: len(rig.registry) == 1)
            label = rig.registry.all()[0].label
            connection = await logged_in(rig)
            keys = connection._send_encryption

            connection._rekey_bytes = MIB  # as the option rekey_bytes
            by_bytes = await moves_intact(rig, f"{label}.tunnels.test", 8 * MIB)
            after_bytes = connection._send_encryption
            connection._rekey_bytes = listener.REKEY_BYTES
            connection._rekey_time = 0.0  # as when rekey_seconds have passed
            by_time = await moves_intact(rig, f"{label}.tunnels.test", MIB)
            after_time = connection._send_encryption

            assert (by_bytes, by_time) == (True, True)
            assert len({id(keys), id(after_bytes), id(after_time)}) == 3
