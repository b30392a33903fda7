from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from tunnel_server.adapters.tls.port import Port, PortOptions

LIMIT = 10.0  # seconds
OPTIONS = PortOptions(backlog=100, buffer=0, keepalive=True, proxies=(), capacity=10)
Run = Callable[[Coroutine[Any, Any, None]], None]


class Greeting(asyncio.Protocol):
    def __init__(self, word: bytes) -> None:
        self._word = word

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._word)  # type: ignore[attr-defined]
        transport.close()


async def greeted(address: tuple[str, int]) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    try:
        async with asyncio.timeout(LIMIT):
            return await reader.read()
    finally:
        writer.close()


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """What runs the event loop: the server's is uvloop's where there is one."""
    found: Run = request.param
    return found


def test_it_listens_on_each_socket_it_is_given_and_not_on_its_address(run: Run) -> None:
    async def main() -> None:
        given = [socket.create_server(("127.0.0.1", 0)), socket.create_server(("::1", 0), family=socket.AF_INET6)]
        addresses = [sock.getsockname()[:2] for sock in given]
        async with Port("HTTP", ("127.0.0.1", 1), OPTIONS, given) as port:
            await port.open(lambda peer: Greeting(b"hello"))

            assert port.number == addresses[0][1]
            assert [await greeted(address) for address in addresses] == [b"hello", b"hello"]

    run(main())


def test_who_comes_to_a_given_socket_when_it_is_closed_waits_for_the_next(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as owners:
            for word in (b"first", b"second"):
                async with Port("HTTP", ("", 0), OPTIONS, [owners.dup()]) as port:
                    waiting = asyncio.create_task(greeted(owners.getsockname()))
                    await port.open(lambda peer, word=word: Greeting(word))  # type: ignore[misc]
                    assert await waiting == word
            with socket.create_connection(owners.getsockname()[:2]) as visitor:
                async with Port("HTTP", ("", 0), OPTIONS, [owners.dup()]) as port:
                    await port.open(lambda peer: Greeting(b"third"))
                    visitor.setblocking(False)
                    async with asyncio.timeout(LIMIT):
                        assert await asyncio.get_running_loop().sock_recv(visitor, 100) == b"third"

    run(main())
