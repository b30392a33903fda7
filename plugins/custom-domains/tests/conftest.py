"""A DNS server on loopback, and a server that a plugin can run in."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # so that the tests run without an installation

from tunnel_server_custom_domains import CustomDomains

from tunnel_server import BaseUrl, Client, ClientId, ForwardRequest, Thumbprint, Tunnel

MAX_UDP = 1232  # octets, as real servers answer


class Zone(asyncio.DatagramProtocol):
    """Answers TXT questions over UDP and TCP from ``texts``; says what it is told to for other names."""

    def __init__(self) -> None:
        self.texts: dict[str, list[list[bytes]]] = {}
        self.aliases: dict[str, str] = {}
        self.rcodes: dict[str, dns.rcode.Rcode] = {}
        self.silent: set[str] = set()
        self.drops = 0  # questions that get no answer from now on
        self.ttl = 60
        self.soa_minimum: int | None = 7
        self.asked: list[str] = []
        self.by_tcp = 0
        self.garbage = False

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._tcp = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._tcp.sockets[0].getsockname()[1]
        self._udp, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", self.port))
        return self

    async def __aexit__(self, *error: object) -> None:
        self._udp.close()
        self._tcp.close()
        await self._tcp.wait_closed()

    def put(self, name: str, *texts: str) -> None:
        """Make ``texts`` the TXT records of ``name``, each of one string."""
        self.texts[name] = [[text.encode()] for text in texts]

    def datagram_received(self, data: bytes, address: Any) -> None:
        if self.garbage:
            self._udp.sendto(data[:2] + b"\xff" * 40, address)
            return
        wire = self._answer(data)
        if wire is not None:
            self._udp.sendto(wire if len(wire) <= MAX_UDP else self._truncated(data), address)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.by_tcp += 1
        data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        wire = self._answer(data)
        assert wire is not None
        writer.write(len(wire).to_bytes(2, "big") + wire)
        await writer.drain()
        writer.close()

    def _truncated(self, data: bytes) -> bytes:
        response = dns.message.make_response(dns.message.from_wire(data))
        response.flags |= dns.flags.TC
        return response.to_wire()

    def _answer(self, data: bytes) -> bytes | None:
        question = dns.message.from_wire(data)
        asked = question.question[0].name
        name = asked.to_text(omit_final_dot=True).lower()
        self.asked.append(name)
        if name in self.silent or self.drops > 0:
            self.drops -= 1
            return None
        response = dns.message.make_response(question)
        if name in self.aliases:
            target = dns.name.from_text(self.aliases[name])
            response.answer.append(dns.rrset.from_text(asked, self.ttl, "IN", "CNAME", target.to_text()))
            asked, name = target, self.aliases[name]
        self._fill(response, asked, name)
        return response.to_wire(max_size=65535)

    def _fill(self, response: dns.message.Message, asked: dns.name.Name, name: str) -> None:
        if name in self.rcodes:
            response.set_rcode(self.rcodes[name])
        elif name in self.texts:
            if self.texts[name]:
                response.answer.append(
                    dns.rrset.from_text_list(asked, self.ttl, "IN", "TXT", _quoted(self.texts[name]))
                )
        else:
            response.set_rcode(dns.rcode.NXDOMAIN)
        if not response.answer and self.soa_minimum is not None:
            soa = f"ns.zone. root.zone. 1 3600 600 86400 {self.soa_minimum}"
            response.authority.append(dns.rrset.from_text("com.", 3600, "IN", "SOA", soa))


def _quoted(texts: list[list[bytes]]) -> list[str]:
    return [" ".join('"' + "".join(f"\\{octet:03}" for octet in part) + '"' for part in text) for text in texts]


class FakeServer:
    """The server as the plugin sees it: keeps tunnels, notes what is closed."""

    def __init__(self) -> None:
        self.base = BaseUrl.parse("https://tunnels.host.example")
        self.live: list[Tunnel] = []
        self.closed: list[tuple[Tunnel, str]] = []
        self.tasks: list[asyncio.Task[None]] = []

    def tunnels(self) -> list[Tunnel]:
        return list(self.live)

    def find(self, name: str) -> Tunnel | None:
        wild = "*." + name.partition(".")[2]
        found = [tunnel for tunnel in self.live if name in tunnel.names or wild in tunnel.names]
        return found[0] if found else None

    def close(self, tunnel: Tunnel, reason: str) -> None:
        if tunnel in self.live:
            self.live.remove(tunnel)
            self.closed.append((tunnel, reason))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    def open(self, client: Client, name: str, *names: str) -> Tunnel:
        """Note a live tunnel that was asked for as ``name`` and got ``names``."""
        tunnel = Tunnel(names[0], ForwardRequest.parse("/" + name), client, None, 0.0, names[1:])  # type: ignore[arg-type]
        self.live.append(tunnel)
        return tunnel

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
async def zone() -> AsyncIterator[Zone]:
    async with Zone() as running:
        yield running


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    fake = FakeServer()
    yield fake
    await fake.stop()


@pytest.fixture
def make_client() -> Callable[..., Client]:
    """Return a function that makes the owner of a key: ``make_client(b"seed")``."""

    def make(seed: bytes = b"a", address: str = "192.0.2.7") -> Client:
        key = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + seed.ljust(32, b"\0")
        return Client(ClientId.from_public_key(key), Thumbprint.from_public_key(key), "env", address, key)

    return make


@pytest.fixture
async def make_plugin(zone: Zone, server: FakeServer) -> AsyncIterator[Callable[..., Any]]:
    """Return a function that starts the plugin; its arguments are settings, as values."""
    started: list[CustomDomains] = []

    async def make(**settings: Any) -> CustomDomains:
        plugin = CustomDomains()
        values: Mapping[str, Any] = {setting.name: setting.default for setting in plugin.register_settings()}
        ours = {"name_servers": (("127.0.0.1", zone.port),), "try_timeout": 0.3, "lookup_timeout": 20.0}
        plugin.configure({**values, **ours, **settings})
        await plugin.startup(server)  # type: ignore[arg-type]
        started.append(plugin)
        return plugin

    yield make
    for plugin in started:
        await plugin.shutdown()
