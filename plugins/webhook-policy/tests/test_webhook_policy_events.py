"""Events, posted to a real endpoint on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tunnel_server import FinishedRequest

ALL = ("tunnel_opened", "tunnel_closed", "request_finished")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.01)


def finished(tunnel: Any, path: str = "/a?token=secret") -> FinishedRequest:
    return FinishedRequest(tunnel, "198.51.100.1", "GET", "web.tunnels.test", path, 200, "answered", 0.5, 10, 20)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make retries come at once."""
    monkeypatch.setattr("tunnel_server_webhook_policy.events.FIRST_WAIT", 0.01)
    monkeypatch.setattr("tunnel_server_webhook_policy.events.LONGEST_WAIT", 0.02)


async def test_events_arrive_in_order_and_together(hook: Any, make_plugin: Any, make_tunnel: Any, count: Any) -> None:
    plugin, tunnel = await make_plugin(events=ALL), make_tunnel()

    plugin.tunnel_opened(tunnel)
    plugin.request_finished(finished(tunnel))
    plugin.tunnel_closed(tunnel)
    await until(lambda: count(plugin, "events_sent_total") == 3)

    assert [event["event"] for event in hook.events()] == ["tunnel_opened", "request_finished", "tunnel_closed"]
    assert len(hook.asked) == 1
    assert hook.events()[0]["tunnel"]["client"]["user"] == "env"
    assert hook.events()[1]["request"]["path"] == "/a"  # the query may hold secrets
    assert len({event["id"] for event in hook.events()}) == 3


async def test_only_events_that_are_wanted_are_posted(
    hook: Any, make_plugin: Any, make_tunnel: Any, count: Any
) -> None:
    plugin, none = await make_plugin(events=("tunnel_closed",)), await make_plugin()

    assert (plugin.tunnel_opened, plugin.request_finished, none.tunnel_closed) == (None, None, None)
    plugin.tunnel_closed(make_tunnel())
    await until(lambda: count(plugin, "events_sent_total") == 1)

    assert [event["event"] for event in hook.events()] == ["tunnel_closed"]


async def test_a_post_that_failed_is_repeated_with_the_same_ids(
    hook: Any, make_plugin: Any, make_tunnel: Any, count: Any, quick: None
) -> None:
    plugin = await make_plugin(events=ALL)
    hook.status = 500
    plugin.tunnel_opened(make_tunnel())
    await until(lambda: len(hook.asked) >= 3)

    hook.status = 204
    await until(lambda: count(plugin, "events_sent_total") == 1)

    assert len({event["id"] for event in hook.events()}) == 1
    assert len({body["id"] for body in hook.asked}) == 1
    assert count(plugin, "events_dropped_total") == 0


async def test_a_full_queue_drops_and_counts(hook: Any, make_plugin: Any, make_tunnel: Any, count: Any) -> None:
    plugin = await make_plugin(events=ALL, events_queue=5, events_batch=2)

    for _ in range(8):
        plugin.tunnel_opened(make_tunnel())
    assert count(plugin, "events_dropped_total", reason="queue_full") == 3
    await until(lambda: count(plugin, "events_sent_total") == 5)

    assert [len(body["events"]) for body in hook.asked] == [2, 2, 1]
    assert count(plugin, "events_waiting") == 0


async def test_the_queue_is_bounded_in_octets_too(
    make_plugin: Any, make_tunnel: Any, count: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunnel_server_webhook_policy.events.MAX_QUEUE", 2000)
    plugin = await make_plugin(events=ALL)

    for _ in range(20):
        plugin.tunnel_opened(make_tunnel())

    assert 10 < count(plugin, "events_dropped_total", reason="queue_full") < 20


async def test_what_the_endpoint_will_never_take_holds_nothing_up(
    hook: Any, make_plugin: Any, make_tunnel: Any, count: Any
) -> None:
    plugin = await make_plugin(events=ALL)
    hook.status = 422
    plugin.tunnel_opened(make_tunnel())
    await until(lambda: count(plugin, "events_dropped_total", reason="rejected") == 1)

    hook.status = 200
    plugin.tunnel_closed(make_tunnel())
    await until(lambda: count(plugin, "events_sent_total") == 1)

    assert hook.events()[-1]["event"] == "tunnel_closed"


async def test_what_is_too_old_is_given_up(
    hook: Any, make_plugin: Any, make_tunnel: Any, count: Any, quick: None
) -> None:
    plugin = await make_plugin(events=ALL, events_retry_for=0.05)
    hook.status = 500

    plugin.tunnel_opened(make_tunnel())

    await until(lambda: count(plugin, "events_dropped_total", reason="too_old") == 1)


async def test_at_the_stop_what_waits_is_posted(hook: Any, make_plugin: Any, make_tunnel: Any, count: Any) -> None:
    plugin = await make_plugin(events=ALL, events_batch=2)
    for _ in range(5):
        plugin.tunnel_closed(make_tunnel())

    await plugin._events.finish()

    assert count(plugin, "events_sent_total") == 5


async def test_the_stop_does_not_wait_for_an_endpoint_that_fails(
    hook: Any, make_plugin: Any, make_tunnel: Any, count: Any
) -> None:
    plugin = await make_plugin(events=ALL)
    hook.status = 500
    plugin.tunnel_closed(make_tunnel())

    await plugin._events.finish()

    assert count(plugin, "events_dropped_total", reason="stopped") == 1
    assert count(plugin, "events_waiting") == 0
