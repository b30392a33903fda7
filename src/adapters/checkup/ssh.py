"""What an SSH port says before anybody logs in."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

import asyncssh

from tunnel_server.adapters.checkup.connecting import connected

MAX_BANNER = 255  # octets of an identification line, RFC 4253 §4.2
HELLO = b"SSH-2.0-doctor\r\n"


@dataclass(frozen=True, slots=True)
class Greeting:
    """A server's identification, and the SHA-256 fingerprint of its host key, empty if it does not show one."""

    banner: str
    fingerprint: str


async def greeting(address: str, port: int, preface: bytes, limit: float) -> Greeting:
    """Return how the port greets a client that begins with ``preface``; takes at most twice ``limit`` seconds.

    Raises:
        OSError: there is no connection or answer, the latter as TimeoutError, too.
        ValueError: it is no SSH.
    """
    async with asyncio.timeout(limit):
        banner = await _banner(address, port, preface)
    try:
        async with asyncio.timeout(limit):
            return Greeting(banner, await _fingerprint(address, port, preface))
    except Exception:  # whatever a stranger's packets make of asyncssh
        return Greeting(banner, "")


async def _banner(address: str, port: int, preface: bytes) -> str:
    reader, writer = await asyncio.open_connection(
        sock=await connected(address, port, preface + HELLO), limit=MAX_BANNER
    )
    try:
        line = await reader.readuntil(b"\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise ValueError("no SSH is spoken there") from None
    finally:
        writer.transport.abort()
    banner = line.decode("latin-1").strip()
    if not banner.startswith("SSH-2.0-"):
        raise ValueError(f"no SSH is spoken there: {banner[:40]!r}")
    return banner


async def _fingerprint(address: str, port: int, preface: bytes) -> str:
    # asyncssh asks who we are and where we live, though nobody logs in; a container's user may be in no list of users.
    os.environ.setdefault("LOGNAME", "doctor")
    os.environ.setdefault("HOME", "/")
    # Without these, it reads that user's own keys, in a thread that the process would wait for.
    options = asyncssh.SSHClientConnectionOptions(config=None, client_keys=None, agent_path=None)
    own = await connected(address, port, preface)
    key = await asyncssh.get_server_host_key(sock=own, config=None, options=options)
    return "" if key is None else key.get_fingerprint()
