"""One HTTP request on a connection of its own, to an address of the caller's choice."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

import certifi

from tunnel_server.adapters.checkup.connecting import connected

MAX_ANSWER = 64 << 10  # octets
PROXY_UNKNOWN = b"PROXY UNKNOWN\r\n"  # what a port behind a balancer hears first of one that tells of nobody


@dataclass(frozen=True, slots=True)
class Question:
    """What to GET of ``host``, with ``port`` in the Host field if it is not the scheme's own.

    ``trust`` is how to verify TLS, ``None`` for none at all; ``preface`` goes before everything.
    """

    host: str
    port: int
    path: str = "/healthz"
    trust: ssl.SSLContext | None = None
    preface: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: field names in lower case, and the beginning of the body as it came."""

    status: int
    fields: dict[str, str]
    body: bytes


async def ask(address: str, port: int, question: Question, limit: float) -> Answer:
    """Ask at ``address`` and ``port``; connecting, a head and a body may each take ``limit`` seconds.

    Raises:
        OSError: there is no connection, TLS or answer, the latter as TimeoutError, too.
        asyncio.IncompleteReadError: it ended before an answer's head did.
        asyncio.LimitOverrunError: the head is too long.
        ValueError: it is no HTTP.
    """
    async with asyncio.timeout(limit):
        reader, writer = await _opened(await connected(address, port, question.preface), question)
    try:
        async with asyncio.timeout(limit):
            writer.write(_request(question))
            await writer.drain()
            status, fields = _head(await reader.readuntil(b"\r\n\r\n"))
        return Answer(status, fields, await _body(reader, fields.get("content-length", ""), limit))
    finally:
        writer.transport.abort()


async def _opened(own: socket.socket, question: Question) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    name = question.host.strip("[]") if question.trust is not None else None
    try:
        return await asyncio.open_connection(sock=own, ssl=question.trust, server_hostname=name, limit=MAX_ANSWER)
    except BaseException:
        own.close()
        raise


def _request(question: Question) -> bytes:
    default = 443 if question.trust is not None else 80
    host = question.host if question.port == default else f"{question.host}:{question.port}"
    fields = f"Host: {host}\r\nUser-Agent: tunnel-server-doctor\r\nAccept: text/plain\r\nConnection: close\r\n\r\n"
    return f"GET {question.path} HTTP/1.1\r\n{fields}".encode()


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    status = rest[:3]
    if not version.startswith("HTTP/1.") or not (status.isascii() and status.isdigit() and len(status) == 3):
        raise ValueError(f"no HTTP is spoken there: {first[:40]!r}")
    pairs = (line.partition(":") for line in lines)
    return int(status), {name.strip().lower(): value.strip() for name, _, value in pairs if name}


async def _body(reader: asyncio.StreamReader, length: str, limit: float) -> bytes:
    """Return the beginning of what follows; a peer that breaks off or goes silent has said enough."""
    wanted = min(int(length), MAX_ANSWER) if length.isascii() and length.isdigit() and len(length) < 20 else MAX_ANSWER
    found = b""
    with contextlib.suppress(OSError):
        async with asyncio.timeout(limit):
            while len(found) < wanted and (piece := await reader.read(wanted - len(found))):
                found += piece
    return found


def everybody() -> ssl.SSLContext:
    """Return how to verify as a visitor would: by the system's list of CAs or, where there is none, by Mozilla's."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile is not None or (paths.capath is not None and any(Path(paths.capath).iterdir())):
        return _unstrict(ssl.create_default_context())
    return only(Path(certifi.where()))


def only(file: Path) -> ssl.SSLContext:
    """Return how to verify by the CAs in ``file`` alone.

    Raises:
        OSError: it cannot be read or holds none.
    """
    return _unstrict(ssl.create_default_context(cafile=str(file)))


def anybody() -> ssl.SSLContext:
    """Return how to speak TLS with whoever is there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _unstrict(context: ssl.SSLContext) -> ssl.SSLContext:
    # Newer Pythons ask more of a CA than browsers do.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    return context
