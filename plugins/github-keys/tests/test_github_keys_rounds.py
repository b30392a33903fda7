"""When the forges are asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from tunnel_server_github_keys import rounds as module
from tunnel_server_github_keys.rounds import MAX_UNKNOWN, Rounds

LIMIT = 20.0  # seconds


class Work:
    """Counts rounds, each of which lasts until the test lets it end; ``result`` is what they return or raise."""

    def __init__(self) -> None:
        self.begun = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.result: bool | Exception = True

    async def __call__(self) -> bool:
        self.begun += 1
        await self.gate.wait()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture
async def work() -> Work:
    return Work()


@pytest.fixture
async def run() -> AsyncIterator[Callable[[Rounds], None]]:
    """Return what runs rounds until the test ends."""
    tasks: list[asyncio.Task[None]] = []
    yield lambda rounds: tasks.append(asyncio.ensure_future(rounds.run()))
    for task in tasks:
        task.cancel()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


async def test_a_round_comes_at_the_start_and_after_each_interval(work: Work, run: Callable[[Rounds], None]) -> None:
    rounds = Rounds(work, 0.01, 0.0)

    run(rounds)
    for _ in range(3):
        assert await rounds.finished(LIMIT)

    assert work.begun >= 3


async def test_an_unknown_key_starts_a_round_once_the_time_between_has_passed(
    work: Work, run: Callable[[Rounds], None], clock: list[float]
) -> None:
    rounds = Rounds(work, 600.0, 60.0)
    run(rounds)
    assert await rounds.finished(LIMIT)

    assert not await rounds.look_again("ada")
    clock[0] += 61
    assert await rounds.look_again("ada")
    assert not await rounds.look_again("bob")

    assert work.begun == 2


async def test_the_same_key_has_to_wait_twice_as_long_each_time(
    work: Work, run: Callable[[Rounds], None], clock: list[float]
) -> None:
    rounds = Rounds(work, 600.0, 60.0)
    run(rounds)
    assert await rounds.finished(LIMIT)

    began = []
    for second in range(0, 1300, 10):
        clock[0] = 1000.0 + second
        if await rounds.look_again("bot"):
            began.append(second)

    assert began == [60, 120, 240, 480, 960]


async def test_many_unknown_keys_share_one_round(work: Work, run: Callable[[Rounds], None], clock: list[float]) -> None:
    rounds = Rounds(work, 600.0, 60.0)
    run(rounds)
    assert await rounds.finished(LIMIT)
    clock[0] += 61
    work.gate.clear()

    waiting = [asyncio.ensure_future(rounds.look_again(str(number))) for number in range(50)]
    async with asyncio.timeout(LIMIT):
        while work.begun < 2:
            await asyncio.sleep(0)
    work.gate.set()

    assert all(await asyncio.gather(*waiting))
    assert work.begun == 2


async def test_a_client_does_not_wait_for_ever_for_a_round(
    work: Work, run: Callable[[Rounds], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT", 0.01)
    rounds = Rounds(work, 600.0, 60.0)
    work.gate.clear()
    run(rounds)

    assert not await rounds.look_again("ada")
    assert rounds.busy
    work.gate.set()
    assert await rounds.finished(LIMIT)


async def test_a_recheck_of_zero_starts_none(work: Work, run: Callable[[Rounds], None], clock: list[float]) -> None:
    rounds = Rounds(work, 600.0, 0.0)
    run(rounds)
    assert await rounds.finished(LIMIT)
    clock[0] += 1000

    assert not await rounds.look_again("ada")


@pytest.mark.parametrize("result", [False, RuntimeError("broken")])
async def test_a_round_that_is_not_complete_is_tried_again_soon(
    work: Work, run: Callable[[Rounds], None], monkeypatch: pytest.MonkeyPatch, result: bool | Exception
) -> None:
    monkeypatch.setattr(module, "RETRY", 0.01)
    work.result = result
    rounds = Rounds(work, 600.0, 60.0)

    run(rounds)
    for _ in range(3):
        assert await rounds.finished(LIMIT)


async def test_keys_without_number_are_not_all_remembered(work: Work, clock: list[float]) -> None:
    rounds = Rounds(work, 600.0, 0.001)

    for number in range(MAX_UNKNOWN + 100):
        rounds._may_wait(str(number), clock[0])

    assert len(rounds._unknown) == MAX_UNKNOWN
