from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import structlog
from fakes.policies import FakePluginMetrics

from tunnel_server.adapters.plugins.calls import UNDECIDED, Calls, HookFailed, Implementation
from tunnel_server.adapters.plugins.watch import Watch


def calls(timeout: float = 5.0) -> tuple[Calls, FakePluginMetrics]:
    metrics = FakePluginMetrics()
    return Calls(metrics, Watch(metrics), timeout), metrics


def implementation(function: Any, *arguments: str) -> Implementation:
    return Implementation("mine", "a_hook", function, arguments)


async def test_a_function_gets_the_arguments_it_names_and_may_be_async() -> None:
    async def later(b: int, a: int) -> tuple[int, int]:
        await asyncio.sleep(0)
        return a, b

    guarded, metrics = calls()

    assert await guarded.ask(implementation(later, "b", "a"), a=1, b=2, c=3) == (1, 2)
    assert guarded.call(implementation(lambda c: c, "c"), a=1, b=2, c=3) == 3
    assert metrics.failed == []


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_whatever_a_plugin_raises_is_its_failure(error: BaseException, asynchronous: bool) -> None:
    def fail() -> None:
        raise error

    async def fail_later() -> None:
        await asyncio.sleep(0)
        raise error

    guarded, metrics = calls()

    with pytest.raises(HookFailed, match="the plugin mine failed in a_hook"):
        await guarded.ask(implementation(fail_later if asynchronous else fail))
    assert metrics.failed == [("mine", "a_hook", "raised")]


async def test_one_that_hangs_is_left_alone_even_if_it_does_not_heed() -> None:
    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if released.is_set():
                    raise

    released = asyncio.Event()
    guarded, metrics = calls(timeout=0.05)

    began = time.monotonic()
    with pytest.raises(HookFailed):
        await guarded.ask(implementation(stubborn))

    assert time.monotonic() - began < 2
    assert metrics.failed == [("mine", "a_hook", "timeout")]
    released.set()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


async def test_who_no_longer_waits_cancels_the_plugin() -> None:
    cancelled = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            cancelled.set()

    guarded, metrics = calls()
    asking = asyncio.create_task(guarded.ask(implementation(hang)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()

    async with asyncio.timeout(5):
        await cancelled.wait()
    assert metrics.failed == []


async def test_a_policy_that_raises_refuses() -> None:
    guarded, metrics = calls()

    assert guarded.call_policy("mine", "guard_tunnel", lambda request: 1 / 0, None) is UNDECIDED
    assert metrics.failed == [("mine", "guard_tunnel", "raised")]


def test_a_plugin_that_fails_again_and_again_does_not_fill_the_log() -> None:
    guarded, metrics = calls()

    with structlog.testing.capture_logs() as logged:
        for _ in range(1000):
            guarded.failed("mine", "a_hook", "raised", ValueError("x" * 10_000))

    assert len(logged) <= 5
    assert len(logged[0]["reason"]) <= 200
    assert len(metrics.failed) == 1000


async def test_each_step_of_an_async_plugin_is_watched() -> None:
    async def blocks_late() -> None:
        await asyncio.sleep(0)
        time.sleep(0.06)  # noqa: ASYNC251 - that is what is tested

    guarded, metrics = calls()

    await guarded.ask(implementation(blocks_late))

    assert metrics.failed == [("mine", "a_hook", "slow")]


def test_a_plugin_that_never_gives_the_loop_back_is_named_while_it_has_it() -> None:
    metrics = FakePluginMetrics()
    watch = Watch(metrics)
    watch.start()
    before = watch.enter("mine", "a_hook")
    try:
        deadline = time.monotonic() + 10
        with structlog.testing.capture_logs() as logged:
            while not logged and time.monotonic() < deadline:
                time.sleep(0.01)
    finally:
        watch.leave(before)
        watch.stop()

    assert [(entry["event"], entry["plugin"], entry["hook"]) for entry in logged[:1]] == [
        ("plugin.blocks", "mine", "a_hook")
    ]
