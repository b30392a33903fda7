from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tunnel_server.adapters.checkup import clock

EPOCH = 2_208_988_800


@asynccontextmanager
async def time_server(answer: Callable[[bytes], list[bytes]]) -> AsyncIterator[int]:
    class Serving(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, peer: Any) -> None:
            for each in answer(data):
                self.transport.sendto(each, peer)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Serving, local_addr=("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


def told(question: bytes, when: float, first: int = 0x24, stratum: int = 2, echo: bytes | None = None) -> bytes:
    whole = int(when + EPOCH)
    stamp = struct.pack("!II", whole & 0xFFFFFFFF, int((when % 1) * 2**32))
    return bytes([first, stratum, 0, 0]) + bytes(20) + (question[40:48] if echo is None else echo) + stamp + stamp


async def test_the_offset_is_positive_for_a_clock_that_is_behind() -> None:
    async with time_server(lambda question: [told(question, time.time() + 100)]) as port:
        assert abs(await clock.offset("127.0.0.1", port, 5) - 100) < 1


async def test_time_goes_on_after_2036() -> None:
    later = 2_200_000_000.0  # 2039
    async with time_server(lambda question: [told(question, later)]) as port:
        assert abs(await clock.offset("127.0.0.1", port, 5) - (later - time.time())) < 2


async def test_the_question_tells_nobody_the_time_and_is_never_the_same() -> None:
    heard: list[bytes] = []
    async with time_server(lambda question: [heard.append(question) or told(question, time.time())]) as port:  # type: ignore[func-returns-value]
        for _ in range(2):
            await clock.offset("127.0.0.1", port, 5)

    assert [len(each) for each in heard] == [48, 48]
    assert heard[0][:40] == heard[1][:40] == b"\x23" + bytes(39)
    assert heard[0][40:] != heard[1][40:]


async def test_answers_to_other_questions_and_pieces_are_passed_over() -> None:
    def answer(question: bytes) -> list[bytes]:
        good = told(question, time.time())
        return [b"", good[:47], told(question, 0, echo=bytes(8)), told(question, 0, first=0x23), good]

    async with time_server(answer) as port:
        assert abs(await clock.offset("127.0.0.1", port, 5)) < 1


@pytest.mark.parametrize("wrong", [{"stratum": 0}, {"stratum": 16}, {"first": 0xE4}])
async def test_a_server_that_does_not_know_the_time_is_not_believed(wrong: dict[str, int]) -> None:
    async with time_server(lambda question: [told(question, time.time(), **wrong)]) as port:
        with pytest.raises(ValueError, match="does not know the time"):
            await clock.offset("127.0.0.1", port, 5)


async def test_silence_and_a_closed_port_end_within_the_limit() -> None:
    async with time_server(lambda question: []) as port:
        with pytest.raises(TimeoutError):
            await clock.offset("127.0.0.1", port, 0.1)
    with pytest.raises(OSError):  # noqa: PT011 # refused or silent, as the system likes
        await clock.offset("127.0.0.1", port, 0.1)


def test_the_kernel_is_asked_and_not_told() -> None:
    before = time.clock_gettime(time.CLOCK_MONOTONIC_RAW), time.time()

    assert clock.kept_by_kernel() in (True, False, None)

    after = time.clock_gettime(time.CLOCK_MONOTONIC_RAW), time.time()
    assert abs((after[0] - before[0]) - (after[1] - before[1])) < 1
