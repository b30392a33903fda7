from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import certifi
import pytest
from certs import make_pair

from tunnel_server.adapters.checkup import ssh, web
from tunnel_server.adapters.checkup.trouble import EXPECTED, trouble_of
from tunnel_server.domain.diagnosis.trouble import Kind

QUESTION = web.Question("tunnels.test", 3000, "/healthz")


@asynccontextmanager
async def peer(say: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any], **options: Any) -> AsyncIterator[int]:
    """Give the port of somebody who does what ``say`` does, and then closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await say(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def saying(*pieces: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.writelines(pieces)
        await writer.drain()
        await reader.read()

    return say


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 65536)
        await writer.drain()


async def test_an_answer_is_taken_apart() -> None:
    heard = []

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nServer: x\r\nTwo:  words \r\n\r\nbody")

    async with peer(say) as port:
        answer = await web.ask("127.0.0.1", port, QUESTION, 5)

    assert (answer.status, answer.fields["server"], answer.fields["two"], answer.body) == (502, "x", "words", b"body")
    assert heard[0].startswith(b"GET /healthz HTTP/1.1\r\nHost: tunnels.test:3000\r\n")


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        ((b"SSH-2.0-x\r\n\r\n",), Kind.OTHER, "no HTTP is spoken there: 'SSH-2.0-x'"),
        ((b"HTTP/1.1 2x0 OK\r\n\r\n",), Kind.OTHER, "no HTTP is spoken there"),
        ((b"HTTP/1.1 200 OK\r\n" + b"x" * 200_000,), Kind.OTHER, "the answer has no end"),
        ((), Kind.SILENT, "no answer within 0.2 s"),
    ],
)
async def test_strangers_are_told_of_and_kept_within_limits(answer: tuple[bytes, ...], kind: Kind, text: str) -> None:
    async with peer(saying(*answer)) as port:
        with pytest.raises(EXPECTED) as raised:
            await web.ask("127.0.0.1", port, QUESTION, 0.2)

    trouble = trouble_of(raised.value, 0.2)
    assert trouble.kind is kind
    assert trouble.text.startswith(text)


async def test_of_an_endless_body_only_the_beginning_is_read() -> None:
    async with peer(endless) as port:
        answer = await web.ask("127.0.0.1", port, QUESTION, 5)

    assert len(answer.body) == web.MAX_ANSWER


@pytest.mark.parametrize("length", ["", "Content-Length: 9999\r\n", "Content-Length: -1\r\n"])
async def test_a_peer_that_does_not_close_has_said_enough(length: str) -> None:
    async with peer(saying(b"HTTP/1.1 200 OK\r\n", length.encode(), b"\r\nOK")) as port:
        answer = await web.ask("127.0.0.1", port, QUESTION, 0.2)

    assert answer.body == b"OK"


async def test_one_that_closes_at_once_or_is_not_there_is_told_of() -> None:
    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with peer(leave) as port:
        with pytest.raises(EXPECTED) as closed:
            await web.ask("127.0.0.1", port, QUESTION, 5)
    with pytest.raises(EXPECTED) as refused:
        await web.ask("127.0.0.1", port, QUESTION, 5)

    assert trouble_of(closed.value, 5).text == "the connection was closed without an answer"
    assert trouble_of(refused.value, 5).kind is Kind.REFUSED


async def test_a_certificate_is_verified_by_the_list_that_is_given(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "tunnels.test")
    async with peer(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), ssl=pair.server_context()) as port:
        good = web.Question("tunnels.test", port, trust=web.only(pair.ca))
        with pytest.raises(ssl.SSLCertVerificationError) as unknown:
            await web.ask("127.0.0.1", port, web.Question("tunnels.test", port, trust=web.everybody()), 5)
        with pytest.raises(ssl.SSLCertVerificationError) as other:
            await web.ask("127.0.0.1", port, web.Question("other.test", port, trust=web.only(pair.ca)), 5)
        answer = await web.ask("127.0.0.1", port, good, 5)

    assert answer.status == 200
    assert trouble_of(unknown.value, 5).kind is Kind.UNTRUSTED
    assert (trouble_of(unknown.value, 5).code, trouble_of(other.value, 5).code) == (20, 62)


def test_without_a_list_of_cas_mozillas_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nothing = ssl.DefaultVerifyPaths(None, str(tmp_path), "", "", "", "")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nothing)

    expected = ssl.create_default_context(cafile=certifi.where()).cert_store_stats()["x509_ca"]
    assert web.everybody().cert_store_stats()["x509_ca"] == expected > 50


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"x" * 5000, b""])
async def test_what_is_no_ssh_is_told_of(answer: bytes) -> None:
    async with peer(saying(answer)) as port:
        with pytest.raises(EXPECTED):
            await ssh.greeting("127.0.0.1", port, b"", 0.3)


async def test_a_host_key_is_seen_by_a_user_that_nobody_knows_and_who_has_no_home(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nobody(user: int) -> None:
        raise KeyError(user)

    key = asyncssh.generate_private_key("ssh-ed25519")
    async with asyncssh.listen("127.0.0.1", 0, server_host_keys=[key]) as server:
        monkeypatch.setattr("pwd.getpwuid", nobody)
        monkeypatch.setattr("os.environ", {})

        found = await ssh.greeting("127.0.0.1", server.get_port(), b"", 5)

    assert found.fingerprint == key.get_fingerprint()


async def test_nobodys_own_keys_are_read_to_see_a_host_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / ".ssh" / "id_ed25519"
    own.parent.mkdir()
    os.mkfifo(own)
    monkeypatch.setenv("HOME", str(tmp_path))
    key = asyncssh.generate_private_key("ssh-ed25519")

    async with asyncssh.listen("127.0.0.1", 0, server_host_keys=[key]) as server:
        try:
            found = await ssh.greeting("127.0.0.1", server.get_port(), b"", 2)
        finally:
            own.rename(pipe := tmp_path / "pipe")
            os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))  # lets go of whoever waits for it

    assert found.fingerprint == key.get_fingerprint()


async def test_an_ssh_server_without_a_host_key_still_has_a_banner() -> None:
    async with peer(saying(b"SSH-2.0-other\r\n")) as port:
        assert await ssh.greeting("127.0.0.1", port, b"", 0.3) == ssh.Greeting("SSH-2.0-other", "")
