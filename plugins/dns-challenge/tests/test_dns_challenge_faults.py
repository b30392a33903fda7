"""Nothing that one peer does, and no fault of the plugin's own, ends the service. On each event loop it may run on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import dns.message
import dns.query
import pytest
import uvloop
from rig import until
from structlog.testing import capture_logs
from tunnel_server_dns_challenge import tcp, udp
from tunnel_server_dns_challenge.answer import Answer, answer
from tunnel_server_dns_challenge.faults import QUIET, Faults
from tunnel_server_dns_challenge.metrics import Metrics
from tunnel_server_dns_challenge.tcp import MAX_OF_NETWORK, TcpServer
from tunnel_server_dns_challenge.turns import Turns
from tunnel_server_dns_challenge.zones import Zones

ZONE = "_acme-challenge.tunnels.example.com"
QUERY = dns.message.make_query(ZONE, "TXT")
FRAME = len(QUERY.to_wire()).to_bytes(2, "big") + QUERY.to_wire()
EVIL = dns.message.make_query(f"evil.{ZONE}", "TXT")

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """What runs the event loop: the server's is uvloop's where there is one."""
    found: Run = request.param
    return found


class Gate(Turns):
    """Turns that nobody gets until it is opened."""

    def __init__(self) -> None:
        super().__init__(time.perf_counter)
        self.waiting = 0
        self.opened = asyncio.Event()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        self.waiting += 1
        await self.opened.wait()
        yield


class Serving:
    """A server of TCP that runs while entered, and must do so until the end."""

    def __init__(self, turns: Turns) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.sock.setblocking(False)
        zones, faults = Zones([ZONE], "tunnels.example.com"), Faults(time.monotonic)
        self.server = TcpServer(self.sock, zones, turns, Metrics(), faults)

    async def __aenter__(self) -> Serving:
        self._task = asyncio.ensure_future(self.server.serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with self.sock, pytest.raises(asyncio.CancelledError):  # and not what ended it before
            await self._task

    async def connect(self, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self.sock.getsockname())
        writer.write(sent)
        return reader, writer


async def answered(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(5):
        size = int.from_bytes(await reader.readexactly(2), "big")
        return QUERY.is_response(dns.message.from_wire(await reader.readexactly(size)))


def test_a_connection_that_is_ended_while_its_question_waits_ends_no_other(run: Run) -> None:
    async def main() -> None:
        gate = Gate()
        async with Serving(gate) as serving:
            pairs = [await serving.connect(FRAME)]
            await until(lambda: gate.waiting == 1)
            pairs += [await serving.connect(FRAME) for _ in range(MAX_OF_NETWORK)]  # so that the first has to go
            await until(lambda: gate.waiting == MAX_OF_NETWORK + 1)
            gate.opened.set()

            for reader, _ in pairs[1:]:
                assert await answered(reader)
            for _, writer in pairs:
                writer.close()

    with capture_logs() as logs:
        run(main())
    assert logs == []


def test_a_peer_that_is_gone_while_its_question_waits_ends_no_other(run: Run) -> None:
    async def main() -> None:
        gate = Gate()
        async with Serving(gate) as serving:
            gone = socket.create_connection(serving.sock.getsockname())
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
            gone.send(FRAME)
            await until(lambda: gate.waiting == 1)
            [theirs] = serving.server._open
            gone.close()
            await until(theirs.is_closing)
            reader, writer = await serving.connect(FRAME)
            await until(lambda: gate.waiting == 2)
            gate.opened.set()

            assert await answered(reader)
            writer.close()

    with capture_logs() as logs:
        run(main())
    assert logs == []


def test_many_connections_that_ask_much_and_take_nothing_do_not_end_it(run: Run) -> None:
    async def main() -> None:
        async with Serving(Turns(time.perf_counter)) as serving:
            for _ in range(20):
                pairs = [await serving.connect(400 * FRAME) for _ in range(2 * MAX_OF_NETWORK)]
                for _, writer in pairs:
                    writer.transport.abort()
            reader, writer = await serving.connect(FRAME)

            assert await answered(reader)
            writer.close()

    with capture_logs() as logs:
        run(main())
    assert logs == []


def test_a_server_that_has_ended_can_begin_again_on_its_socket(run: Run) -> None:
    async def main() -> None:
        serving = Serving(Turns(time.perf_counter))
        first = asyncio.ensure_future(serving.server.serve())
        reader, writer = await serving.connect(FRAME)
        assert await answered(reader)
        first.cancel()
        await asyncio.wait([first])
        writer.close()

        async with serving:
            reader, writer = await serving.connect(FRAME)
            assert await answered(reader)
            writer.close()

    run(main())


# Faults, put in on purpose


def faulty(wire: bytes, *rest: Any) -> Answer | None:
    if b"\4evil" in wire:
        raise RuntimeError("a fault")
    return answer(wire, *rest)


async def test_a_fault_in_one_connection_is_logged_and_counted_and_ends_no_other(
    make_plugin: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "answer", faulty)
    with capture_logs() as logs:
        running = await make_plugin()
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        for number in (1, 2, 3):
            with pytest.raises(EOFError):
                await asyncio.to_thread(dns.query.tcp, EVIL, "127.0.0.1", port=running.port, timeout=5)
            await until(lambda number=number: running.counted("tcp", "failed") == number)  # type: ignore[misc]
        writer.write(FRAME)

        assert await answered(reader)
        writer.close()
    told = [entry for entry in logs if entry["event"] == "dns-challenge.failed"]
    assert [(entry["part"], entry["log_level"]) for entry in told] == [("a TCP connection", "error")]


async def test_a_fault_with_one_datagram_is_logged_and_counted_and_the_next_is_answered(
    make_plugin: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udp, "answer", faulty)
    with capture_logs() as logs:
        running = await make_plugin()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for _ in range(3):
                peer.sendto(EVIL.to_wire(), ("127.0.0.1", running.port))
        await until(lambda: running.counted("udp", "failed") == 3)

        assert await asyncio.to_thread(dns.query.udp, QUERY, "127.0.0.1", port=running.port, timeout=5)
    told = [entry for entry in logs if entry["event"] == "dns-challenge.failed"]
    assert [(entry["part"], entry["log_level"]) for entry in told] == [("a datagram", "error")]


@pytest.mark.parametrize(
    ("server", "part", "ask"), [("TcpServer", "all of TCP", dns.query.tcp), ("UdpServer", "all of UDP", dns.query.udp)]
)
async def test_a_service_that_fails_says_so_and_begins_again(
    make_plugin: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, server: str, part: str, ask: Callable[..., Any]
) -> None:
    plain, failures = getattr({"TcpServer": tcp, "UdpServer": udp}[server], server), []

    class Failing(plain):  # type: ignore[misc]
        async def serve(self) -> None:
            if not failures:
                failures.append(1)
                raise RuntimeError("a fault")
            await super().serve()

    monkeypatch.setattr(f"tunnel_server_dns_challenge.plugin.{server}", Failing)
    monkeypatch.setattr("tunnel_server_dns_challenge.faults.AGAIN", 0.01)
    with capture_logs() as logs:
        running = await make_plugin()

        assert await asyncio.to_thread(ask, QUERY, "127.0.0.1", port=running.port, timeout=5)
    [told] = [entry for entry in logs if entry["event"] == "dns-challenge.failed"]
    assert (told["part"], told["log_level"], told["reason"]) == (part, "error", "RuntimeError('a fault')")


def test_faults_are_logged_now_and_then_each_part_by_itself() -> None:
    times = iter([0.0, 1.0, QUIET - 1, QUIET - 1, QUIET])
    faults = Faults(lambda: next(times))
    with capture_logs() as logs:
        for part in ("a datagram", "a datagram", "a datagram", "all of UDP", "a datagram"):
            faults.log(part, ValueError())

    assert [(entry["part"], entry["unsaid"]) for entry in logs] == [
        ("a datagram", 0),
        ("all of UDP", 0),
        ("a datagram", 2),
    ]
