"""An HTTP/2 connection in memory: a visitor that is h2's client, a service whose channels the test answers on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from fakes.policies import FakeRules
from fakes.transport import FakeEvents, FakeTransport
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, Event, StreamEnded, StreamReset
from h2.settings import Settings
from rig import LIMIT, until

from tunnel_server.adapters.proxy.http2 import connection
from tunnel_server.adapters.proxy.http2.connection import Http2Connection
from tunnel_server.adapters.proxy.limits import Limits, Secure
from tunnel_server.adapters.proxy.relay import Relay
from tunnel_server.domain.arrival import Arrival
from tunnel_server.domain.forward import ForwardRequest
from tunnel_server.domain.identity import ClientId, Thumbprint
from tunnel_server.domain.metrics import Metrics, Outcome
from tunnel_server.domain.naming import BaseUrl
from tunnel_server.domain.ports import Channel, ChannelReceiver
from tunnel_server.domain.registry import TunnelRegistry
from tunnel_server.domain.routing import Router
from tunnel_server.domain.tunnel import Client

HOST = "web-client01.tunnels.test"


class FakeChannel(Channel):
    """Keeps what the exchange writes; the test says what the service answers."""

    def __init__(self, receiver: ChannelReceiver) -> None:
        self.receiver = receiver
        self.written = b""
        self.writes = 0
        self.paused = self.closed = self.eof = False

    def write(self, data: bytes) -> None:
        self.written += data
        self.writes += 1

    def write_eof(self) -> None:
        self.eof = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def say(self, data: bytes) -> None:
        self.receiver.data_received(data)


class FakeClient(FakeTransport):
    """Opens channels, at once or once the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.channels: list[FakeChannel] = []
        self.asked = 0
        self.open = asyncio.Event()
        self.open.set()

    async def open_channel(self, request: str, receiver: ChannelReceiver) -> Channel:
        self.asked += 1
        await self.open.wait()
        self.channels.append(FakeChannel(receiver))
        return self.channels[-1]


class FakeMetrics(FakeEvents):
    """Remembers how requests ended; has of the port what the relay needs."""

    def __init__(self) -> None:
        super().__init__()
        self.finished: list[tuple[int, Outcome]] = []
        self.connected = 0

    def channel_opened(self, seconds: float) -> None: ...
    def channel_closed(self) -> None: ...
    def queue_waited(self, seconds: float) -> None: ...

    def visitor_connected(self) -> None:
        self.connected += 1

    def visitor_disconnected(self) -> None:
        self.connected -= 1

    def request_finished(self, client_id: str | None, status: int, outcome: Outcome, *rest: Any) -> None:
        self.finished.append((status, outcome))


class FakeTls(asyncio.Transport):
    """What the connection is told is its TLS transport."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.size = 0
        self.reading = True
        self.eof = self.closed = False

    def write(self, data: Any) -> None:
        assert not self.eof and not self.closed
        self.sent += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return self.size

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.7", 5000) if name == "peername" else default


class Hello(asyncio.Protocol):
    """A control plane of few words."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.received.endswith(b"\r\n\r\n"):
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
            self.transport.close()


class Peer:
    """One visitor: h2's client on one side, raw frames on the other if a test wants."""

    def __init__(self, relay: Relay, arrival: Arrival, settings: dict[Any, int] | None = None) -> None:
        self.tls = FakeTls()
        self.server = Http2Connection(relay, arrival)
        self.server.connection_made(self.tls)
        self.h2 = H2Connection(H2Configuration(client_side=True, validate_outbound_headers=False))
        if settings:
            self.h2.local_settings = Settings(client=True, initial_values=settings)
        self.events: list[Event] = []
        self.h2.initiate_connection()
        self.flush()
        self.listen()

    def flush(self) -> None:
        """Send what h2 has ready."""
        data = self.h2.data_to_send()
        if data:
            self.raw(data)

    def raw(self, data: bytes) -> None:
        self.server.data_received(data)

    def listen(self) -> list[Event]:
        """Take what the server has sent; answer what h2 answers by itself."""
        sent, self.tls.sent = self.tls.sent, b""
        self.events += self.h2.receive_data(sent)
        self.flush()
        return self.events

    def ask(self, *fields: tuple[str, str], end: bool = True, method: str = "GET", path: str = "/") -> int:
        """Send a request's head; return its stream."""
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "https"), (":authority", HOST), (":path", path), *fields]
        self.h2.send_headers(stream, head, end_stream=end)
        self.flush()
        return stream

    def wait_long(self) -> None:
        """Let all time limits pass."""
        self.server.timed_out(asyncio.get_running_loop().time() + 100_000)

    def heard(self, kind: type[Event], stream: int | None = None) -> list[Any]:
        """Return the events of one kind, of one stream."""
        self.listen()
        return [e for e in self.events if isinstance(e, kind) and (stream is None or e.stream_id == stream)]

    async def reset(self, stream: int) -> int:
        """Return the code that a stream was reset with."""
        return int((await until(lambda: self.heard(StreamReset, stream)))[0].error_code)

    async def goaway(self) -> int:
        """Return the code that the connection ended with."""
        return int((await until(lambda: self.heard(ConnectionTerminated)))[0].error_code)

    async def body(self, stream: int) -> bytes:
        """Return a whole answer's body, giving back its windows."""
        async with asyncio.timeout(LIMIT):
            await self._take_body(stream)
        return b"".join(event.data for event in self.heard(DataReceived, stream))

    async def _take_body(self, stream: int) -> None:
        given = 0
        while not self.heard(StreamEnded, stream):
            for event in self.heard(DataReceived, stream)[given:]:
                given += 1
                if event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
            self.flush()
            await asyncio.sleep(0)


class World:
    """The server's side: one tunnel, whose client's channels are fakes."""

    def __init__(self, limits: Limits, arrival: Arrival, secure: Secure) -> None:
        self.metrics = FakeMetrics()
        self.registry = TunnelRegistry(self.metrics)
        base = BaseUrl.parse("https://tunnels.test")
        self.relay = Relay(
            self.registry,
            Router(base),
            base,
            limits,
            cast(Metrics, self.metrics),
            lambda _: Hello(),
            secure,
            FakeRules(),
        )
        self.relay.loop = asyncio.get_running_loop()
        self.arrival = arrival
        self.client = FakeClient()
        owner = Client(
            ClientId("client01"),
            Thumbprint("urn:ietf:params:oauth:jwk-thumbprint:sha-256:" + "t" * 43),
            "env",
            "192.0.2.1",
        )
        self.registry.open(ForwardRequest.parse("/web"), owner, self.client, 0.0)

    def peer(self, settings: dict[Any, int] | None = None) -> Peer:
        return Peer(self.relay, self.arrival, settings)

    async def channel(self, number: int = 0) -> FakeChannel:
        """Return the channel opened as the ``number``-th, once it is."""
        await until(lambda: len(self.client.channels) > number)
        return self.client.channels[number]

    async def received(self, part: bytes, number: int = 0) -> FakeChannel:
        """Return a channel once ``part`` was written to it."""
        channel = await self.channel(number)
        await until(lambda: part in channel.written)
        return channel


@pytest.fixture(autouse=True)
def long_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was received is handled at once, however busy the machine is; tests of turns shorten them."""
    monkeypatch.setattr(connection, "TURN", 60.0)


@pytest.fixture
async def make_world() -> AsyncIterator[Callable[..., World]]:
    """Return what makes a server; keyword arguments are its limits."""
    worlds: list[World] = []

    def make(arrival: Arrival | None = None, hsts: bytes = b"", **limits: Any) -> World:
        worlds.append(World(Limits(**limits), arrival or Arrival(scheme=b"https"), Secure(hsts=hsts)))
        return worlds[-1]

    yield make
    for world in worlds:
        world.client.open.set()
        await world.relay.abort()


@pytest.fixture
async def world(make_world: Callable[..., World]) -> World:
    """A server with default limits."""
    return make_world()
