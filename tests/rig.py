"""A running server, and who talks to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self

import asyncssh
import pytest

from tunnel_server.adapters.plugins.hooks import Hooks, Plugin
from tunnel_server.adapters.plugins.registered import configure, declared_settings
from tunnel_server.app.container import Container
from tunnel_server.app.plugins import house
from tunnel_server.app.serve import start
from tunnel_server.app.settings import Settings

LIMIT = 10.0  # seconds any awaited condition may take


async def until(condition: Callable[[], object], limit: float = LIMIT) -> Any:
    """Return the condition's value once it is true; the only wait in the tests that looks again and again."""
    async with asyncio.timeout(limit):
        while not (value := condition()):
            await asyncio.sleep(0.01)
        return value


def need(program: str) -> str:
    """Return the path of an optional program; a person's run skips without it, CI fails."""
    found = shutil.which(program)
    if found is None:
        reason = f"{program} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def with_plugins(**bodies: Any) -> Hooks:
    """Return the house's plugins and these, by their names, each with the defaults of its settings."""
    names = [Plugin(name.replace("_", "-"), "1", "test", body) for name, body in bodies.items()]
    hooks = Hooks([*house().plugins, *names])
    configure(hooks, {name: {s.name: s.default for s in found} for name, found in declared_settings(hooks).items()})
    return hooks


class Rig:
    """A server started in this process, as ``app/serve`` starts it."""

    tls: Any  # where there is a certificate

    def __init__(self, settings: Settings, folder: Path, plugins: Hooks | None = None) -> None:
        self.settings = settings
        self.folder = folder
        self.container = Container(settings=settings, **({} if plugins is None else {"hooks": plugins}))
        self._stack = AsyncExitStack()
        self._visits: list[Visit] = []

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        try:
            ports = await start(self.container, self.settings, self._stack)
        except BaseException:
            await self._stack.aclose()
            raise
        self.metrics, self.ssh, self.http, self.tls = ports.metrics, ports.ssh, ports.http, ports.tls
        return self

    async def __aexit__(self, *error: Any) -> None:
        for visit in self._visits:
            visit.close()
        await self._stack.aclose()
        for visit in self._visits:
            await visit.closed()

    @property
    def registry(self) -> Any:
        return self.container.registry()

    @property
    def counted(self) -> str:
        """What the metrics say, as Prometheus would read it."""
        text: bytes = self.container.metrics().render()[0]
        return text.decode()

    # clients

    @asynccontextmanager
    async def client(
        self, key: asyncssh.SSHKey | None = None, **options: Any
    ) -> AsyncIterator[asyncssh.SSHClientConnection]:
        """Connect with asyncssh, as a key's owner."""
        address = ("", 0) if "sock" in options else ("127.0.0.1", self.ssh.port)
        async with asyncssh.connect(
            *address,
            username=options.pop("username", "env"),
            client_keys=[key or asyncssh.generate_private_key("ssh-ed25519")],
            known_hosts=None,
            config=None,
            agent_path=None,
            **options,
        ) as connection:
            yield connection

    @asynccontextmanager
    async def tunnel(self, port: int, name: str = "/web", **options: Any) -> AsyncIterator[str]:
        """Publish a local port with asyncssh; gives the Host of the tunnel."""
        async with self.client(**options) as connection:
            await connection.forward_remote_path_to_port(name, "127.0.0.1", port)
            hello = json.loads((await connection.run("tunnel-url " + name)).stdout)
            host = hello[name].split("/")[2].partition(":")[0]
            yield host

    def openssh(self, *words: str, key: Path | None = None, options: tuple[str, ...] = ()) -> list[str]:
        """Return the command line of a real OpenSSH client."""
        return [
            need("ssh"), "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-i",
            str(key or self.key()), "-p", str(self.ssh.port), *options, "-o", "LogLevel=ERROR", "env@127.0.0.1", *words,
        ]  # fmt: skip

    def key(self, kind: str = "ssh-ed25519", name: str = "id", **options: Any) -> Path:
        """Return a private key's file, made at the first call."""
        path = self.folder / f"{name}-{kind}"
        if not path.exists():
            path.write_bytes(asyncssh.generate_private_key(kind, **options).export_private_key())
            path.chmod(0o600)
        return path

    # visitors

    async def connect(self, address: str = "127.0.0.1", port: int = 0) -> Visit:
        """Open a visitor's connection from ``address``, one of this machine's, to ``port``; 0 for HTTP's."""
        visit = Visit(
            *await asyncio.open_connection("127.0.0.1", port or self.http.port, limit=1 << 22, local_addr=(address, 0))
        )
        self._visits.append(visit)
        return visit

    async def connect_tls(self, context: ssl.SSLContext, server_name: str | None) -> Visit:
        """Open a visitor's connection to the TLS port."""
        visit = Visit(
            *await asyncio.open_connection(
                "127.0.0.1", self.tls.port, limit=1 << 22, ssl=context, server_hostname=server_name or ""
            )
        )
        self._visits.append(visit)
        return visit

    async def get(self, host: str, path: str = "/", *fields: str, method: str = "GET") -> Answer:
        """Ask once, on a connection of its own."""
        visit = await self.connect()
        try:
            await visit.send(method, path, f"Host: {host}", *fields, "Connection: close")
            return await visit.answer(method)
        finally:
            visit.close()


class Answer:
    """An answer as a strict client reads it."""

    def __init__(self, status: int, fields: list[tuple[str, str]], body: bytes, trailers: list[str]) -> None:
        self.status = status
        self.fields = fields
        self.body = body
        self.trailers = trailers

    def field(self, name: str) -> str | None:
        """Return a field's value, its lines joined."""
        values = [value for key, value in self.fields if key.lower() == name.lower()]
        return ", ".join(values) if values else None


class Visit:
    """One visitor's connection, byte by byte under the test's control."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send(self, method: str, path: str, *fields: str, body: bytes = b"") -> None:
        await self.raw("\r\n".join([f"{method} {path} HTTP/1.1", *fields, "", ""]).encode("latin-1") + body)

    async def head(self) -> tuple[int, list[tuple[str, str]]]:
        async with asyncio.timeout(LIMIT):
            block = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = block[:-4].split("\r\n")
        fields = [(name, value.strip()) for name, _, value in (entry.partition(":") for entry in lines)]
        return int(line.split(" ")[1]), fields

    async def answer(self, method: str = "GET") -> Answer:
        """Read a final answer whole; raises IncompleteReadError when it is cut short."""
        while True:
            status, fields = await self.head()
            if status >= 200 or status == 101:
                break
        named = {name.lower(): value for name, value in fields}
        body, trailers = b"", []
        async with asyncio.timeout(LIMIT):
            if method == "HEAD" or status in (101, 204, 304):
                pass
            elif named.get("transfer-encoding") == "chunked":
                body, trailers = await self._chunks()
            elif "content-length" in named:
                body = await self.reader.readexactly(int(named["content-length"]))
            else:
                body = await self.reader.read()
        return Answer(status, fields, body, trailers)

    async def _chunks(self) -> tuple[bytes, list[str]]:
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += (await self.reader.readexactly(size + 2))[:-2]
        trailers = []
        while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
            trailers.append(line.decode().strip())
        return body, trailers

    async def rest(self) -> bytes:
        """Return all until the server ends; a reset counts as an end."""
        async with asyncio.timeout(LIMIT):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    def close(self) -> None:
        self.writer.close()

    async def closed(self) -> None:
        """Wait until the socket is gone, however it went."""
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


class Service:
    """The app behind a tunnel: the test writes what it does with each connection."""

    def __init__(self, handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]) -> None:
        self._handle = handle
        self.heads: list[bytes] = []
        self.connections = 0
        self._serving: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 22)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: Any) -> None:
        """Cut every connection, or a client that still has something to send would keep its end open."""
        self._server.close()
        for writer in self._serving.values():
            writer.transport.abort()
        if self._serving:
            await asyncio.wait(set(self._serving), timeout=LIMIT)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        try:
            await self._handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            del self._serving[task]
            writer.close()


def answering(*answers: bytes) -> Callable[..., Any]:
    """Return a service's handler that gives one answer after another to requests without a body, the last for ever."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = list(answers)
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            await writer.drain()

    return handle


def plain(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    """Return an answer with a known length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode() + body
