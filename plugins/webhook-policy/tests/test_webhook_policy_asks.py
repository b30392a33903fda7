"""Questions to a real endpoint on loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from tunnel_server_webhook_policy.questions import MAX_BODY

from tunnel_server import Accept, Access, Allow, Certificate, Client, ForwardRequest, Refuse, Reject

MakeClient = Callable[..., Client]
WEB = ForwardRequest.parse("/web")


async def decide(policy: Any, request: Any) -> Any:
    """Ask a request policy as the server does."""
    answer = policy(request)
    return await answer if hasattr(answer, "__await__") else answer


async def test_a_client_question_tells_who_and_how(hook: Any, make_plugin: Any, make_client: MakeClient) -> None:
    plugin, client = await make_plugin(), make_client()
    hook.answer = {"decision": "accept", "attributes": {"team": "a"}}
    certificate = Certificate(b"ca", "id", 7, ("env",), 0.0, float("inf"))

    answer = await plugin.authenticate_client(client, certificate)

    assert isinstance(answer, Accept)
    assert answer.attributes == {"webhook-policy.team": "a"}
    [asked] = hook.asked
    assert (asked["version"], asked["kind"]) == (1, "client")
    assert asked["client"]["address"] == "192.0.2.7"
    assert asked["client"]["user"] == "env"
    assert asked["client"]["fingerprint"].startswith("SHA256:")
    assert asked["certificate"]["keyId"] == "id"
    assert asked["certificate"]["validBefore"] is None


async def test_a_tunnel_question_tells_the_names_and_its_answer_changes_the_request(
    hook: Any, make_plugin: Any, make_client: MakeClient
) -> None:
    plugin = await make_plugin()
    hook.answer = {"decision": "accept", "access": "private"}

    answer = await plugin.authorize_tunnel(make_client(), WEB, ("web-abcdefgh",))

    assert answer.access is Access.PRIVATE
    assert (answer.text, answer.name) == ("/web", "web")
    assert hook.asked[0]["tunnel"]["names"] == ["web-abcdefgh"]
    hook.answer = {"decision": "reject", "reason": "No."}
    assert await plugin.authorize_tunnel(make_client(), WEB, ("other",)) == Reject("No.")


async def test_only_what_the_settings_name_is_told_of_a_request(
    hook: Any, make_plugin: Any, make_tunnel: Any, make_request: Any
) -> None:
    plugin = await make_plugin(request_parts=("method", "path"), forward_headers=("x-key",))
    lines = (b"Cookie: a=b\r\n", b"Authorization: Bearer x\r\n", b"X-Key: 1\r\n", b"X-Key: 2\r\n")

    await decide(plugin.guard_tunnel(make_tunnel()), make_request("/a?token=secret", "198.51.100.1", *lines))

    assert hook.asked[0]["request"] == {"method": "GET", "path": "/a", "headers": {"x-key": ["1", "2"]}}
    assert hook.asked[0]["tunnel"]["names"] == ["web-abcdefgh"]


async def test_tunnels_that_no_pattern_names_pay_nothing(make_plugin: Any, make_tunnel: Any) -> None:
    plugin = await make_plugin(request_tunnels=("admin-*", "*.example.com"))

    assert plugin.guard_tunnel(make_tunnel("web-abcdefgh")) is None
    assert plugin.guard_tunnel(make_tunnel("admin-abcdefgh")) is not None
    assert plugin.guard_tunnel(make_tunnel("app.example.com")) is not None


async def test_what_is_not_decided_is_not_asked(
    hook: Any, make_plugin: Any, make_client: MakeClient, make_tunnel: Any
) -> None:
    plugin = await make_plugin(decide=())

    assert await plugin.authenticate_client(make_client(), None) is None
    assert await plugin.authorize_tunnel(make_client(), WEB, ("x",)) is None
    assert plugin.guard_tunnel(make_tunnel()) is None
    assert hook.asked == []


# What is remembered


async def test_an_answer_is_used_again_only_for_as_long_as_it_says(
    hook: Any, make_plugin: Any, make_client: MakeClient, count: Any
) -> None:
    plugin = await make_plugin()

    await plugin.authenticate_client(make_client(), None)
    await plugin.authenticate_client(make_client(), None)
    assert len(hook.asked) == 2
    hook.answer = {"decision": "accept", "cacheSeconds": 60}
    await plugin.authenticate_client(make_client(), None)
    await plugin.authenticate_client(make_client(), None)

    assert len(hook.asked) == 3
    assert count(plugin, "asks_saved_total", kind="client", how="cached") == 1


async def test_the_settings_bound_how_long_an_answer_is_good(
    hook: Any, make_plugin: Any, make_client: MakeClient
) -> None:
    plugin = await make_plugin(cache_longest=0.0)
    hook.answer = {"decision": "accept", "cacheSeconds": 60}

    await plugin.authenticate_client(make_client(), None)
    await plugin.authenticate_client(make_client(), None)

    assert len(hook.asked) == 2


async def test_another_key_user_network_or_certificate_is_another_question(
    hook: Any, make_plugin: Any, make_client: MakeClient
) -> None:
    plugin = await make_plugin()
    hook.answer = {"decision": "accept", "cacheSeconds": 60}
    certificate = Certificate(b"ca", "id", 7, (), 0.0, 1e9)
    clients = [
        make_client(address="2001:db8::1"), make_client(b"b", "2001:db8::1"), make_client(address="2001:db8:0:1::1"),
        make_client(address="2001:db8::1", user="other"),
    ]  # fmt: skip

    for client in clients:
        await plugin.authenticate_client(client, None)
    await plugin.authenticate_client(clients[0], certificate)
    assert len(hook.asked) == 5
    await plugin.authenticate_client(make_client(address="2001:db8::2"), None)

    assert len(hook.asked) == 5  # the same network


async def test_a_request_is_answered_from_memory_only_if_all_that_was_told_is_the_same(
    hook: Any, make_plugin: Any, make_tunnel: Any, make_request: Any
) -> None:
    plugin = await make_plugin(forward_headers=("x-key",))
    hook.answer = {"decision": "allow", "cacheSeconds": 60}
    policy, line = plugin.guard_tunnel(make_tunnel()), b"X-Key: 1\r\n"
    successor = plugin.guard_tunnel(make_tunnel(opened_at=6.0))
    requests = [
        (policy, make_request()), (policy, make_request("/b")), (policy, make_request("/", "198.51.100.2")),
        (policy, make_request("/", "198.51.100.1", line)), (policy, make_request(method="POST")),
        (successor, make_request()),
    ]  # fmt: skip

    for asked_policy, request in requests:
        await decide(asked_policy, request)
    assert len(hook.asked) == 6
    answer = policy(make_request("/?query=differs"))

    assert answer == Allow()  # at once: nothing to await
    assert len(hook.asked) == 6


async def test_the_memory_is_bounded(hook: Any, make_plugin: Any, make_tunnel: Any, make_request: Any) -> None:
    plugin = await make_plugin(cache_answers=10)
    hook.answer = {"decision": "allow", "cacheSeconds": 60}
    policy = plugin.guard_tunnel(make_tunnel())

    for number in range(30):
        await decide(policy, make_request(f"/{number}"))

    assert len(plugin._askers[2]._cache) == 10


async def test_a_thousand_visitors_at_once_ask_once(
    hook: Any, make_plugin: Any, make_tunnel: Any, make_request: Any, count: Any
) -> None:
    plugin = await make_plugin(request_parts=("path",), timeout=20.0)
    hook.gate, hook.answer = asyncio.Event(), {"decision": "refuse", "status": 401}
    policy = plugin.guard_tunnel(make_tunnel())
    waiting = [
        asyncio.ensure_future(decide(policy, make_request("/", f"198.51.{number // 250}.{number % 250}")))
        for number in range(1000)
    ]
    async with asyncio.timeout(10):
        while not hook.asked:
            await asyncio.sleep(0.01)

    waiting[0].cancel()
    hook.gate.set()
    answers = await asyncio.gather(*waiting[1:])

    assert {answer.status for answer in answers} == {401}
    assert len(hook.asked) == 1
    assert count(plugin, "asks_saved_total", kind="request", how="shared") == 999


async def test_connections_are_bounded_and_one_visitor_has_a_share_of_what_waits(
    hook: Any, make_plugin: Any, make_tunnel: Any, make_request: Any
) -> None:
    plugin = await make_plugin(connections=3, timeout=20.0)
    hook.gate, hook.answer = asyncio.Event(), {"decision": "allow"}
    policy = plugin.guard_tunnel(make_tunnel())
    greedy = [asyncio.ensure_future(decide(policy, make_request(f"/{number}"))) for number in range(60)]
    modest = asyncio.ensure_future(decide(policy, make_request("/", "203.0.113.1")))
    async with asyncio.timeout(10):
        while hook.at_once < 3:
            await asyncio.sleep(0.01)

    hook.gate.set()
    answers = await asyncio.gather(*greedy)

    assert hook.most_at_once == 3
    assert sum(isinstance(answer, Refuse) and answer.status == 503 for answer in answers) == 10
    assert await modest == Allow()


# Failures


async def fails(hook: Any, plugin: Any, client: Client) -> str:
    answer = await plugin.authenticate_client(client, None)
    assert isinstance(answer, Reject)
    return answer.reason


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"status": 500}, "status"),
        ({"status": 400}, "status"),
        ({"status": 307, "headers": {"Location": "/hook"}}, "status"),
        ({"raw": b"<html>"}, "malformed"),
        ({"raw": b""}, "malformed"),
        ({"raw": b'{"decision":"accept"}' + b" " * 70_000}, "too_large"),
        ({"raw": b'{"decision":"accept"}', "headers": {"Content-Encoding": "gzip"}}, "answered"),
    ],
)
async def test_what_is_no_answer_is_a_failure(
    hook: Any, make_plugin: Any, make_client: MakeClient, count: Any, change: dict[str, Any], outcome: str
) -> None:
    plugin = await make_plugin()
    for name, value in change.items():
        setattr(hook, name, value)

    answer = await plugin.authenticate_client(make_client(), None)

    assert isinstance(answer, Accept if outcome == "answered" else Reject)
    assert count(plugin, "asks_total", kind="client", outcome=outcome) == 1
    assert len(hook.asked) == 1  # no redirect was followed


async def test_a_slow_endpoint_is_given_up_in_time(
    hook: Any, make_plugin: Any, make_client: MakeClient, count: Any
) -> None:
    plugin = await make_plugin(timeout=0.2)
    hook.gate = asyncio.Event()
    began = time.monotonic()

    await fails(hook, plugin, make_client())

    assert time.monotonic() - began < 5
    assert count(plugin, "asks_total", kind="client", outcome="timeout") == 1


async def test_an_endpoint_that_is_down_is_a_failure(make_plugin: Any, make_client: MakeClient, count: Any) -> None:
    plugin = await make_plugin(url="http://127.0.0.1:1/hook")

    await fails(None, plugin, make_client())

    assert count(plugin, "asks_total", kind="client", outcome="unreachable") == 1


async def test_the_breaker_opens_then_one_question_closes_it(
    hook: Any, make_plugin: Any, make_client: MakeClient, count: Any
) -> None:
    plugin = await make_plugin(breaker_failures=3, breaker_pause=0.3)
    hook.status = 500
    for number in range(6):
        await fails(hook, plugin, make_client(bytes([number])))
    assert len(hook.asked) == 3
    assert count(plugin, "circuit_state", kind="client") == 2
    assert count(plugin, "asks_total", kind="client", outcome="circuit_open") == 3

    hook.status, hook.answer = 200, {"decision": "accept"}
    async with asyncio.timeout(10):
        while not isinstance(await plugin.authenticate_client(make_client(), None), Accept):
            await asyncio.sleep(0.02)

    assert count(plugin, "circuit_state", kind="client") == 0
    assert len(hook.asked) == 4


async def test_a_breaker_of_requests_keeps_no_client_out(
    hook: Any, make_plugin: Any, make_client: MakeClient, make_tunnel: Any, make_request: Any
) -> None:
    plugin = await make_plugin(breaker_failures=1)
    hook.status = 500
    await decide(plugin.guard_tunnel(make_tunnel()), make_request())
    hook.status, hook.answer = 200, {"decision": "accept"}

    assert isinstance(await plugin.authenticate_client(make_client(), None), Accept)


async def test_questions_that_the_endpoint_finds_bad_do_not_open_the_breaker(
    hook: Any, make_plugin: Any, make_tunnel: Any, make_request: Any
) -> None:
    plugin = await make_plugin(breaker_failures=2)
    hook.status = 400
    policy = plugin.guard_tunnel(make_tunnel())

    for number in range(10):
        answer = await decide(policy, make_request(f"/{number}"))

    assert answer.status == 503
    assert len(hook.asked) == 10


async def test_a_visitor_who_sends_too_much_is_refused_without_a_question(
    hook: Any, make_plugin: Any, make_tunnel: Any, make_request: Any
) -> None:
    plugin = await make_plugin(on_request_failure="allow")

    answer = await decide(plugin.guard_tunnel(make_tunnel()), make_request("/" + "a" * MAX_BODY))

    assert answer.status == 431
    assert hook.asked == []


@pytest.mark.parametrize("lenient", [False, True])
async def test_a_failure_refuses_unless_the_settings_say_otherwise(
    hook: Any, make_plugin: Any, make_client: MakeClient, make_tunnel: Any, make_request: Any, lenient: bool
) -> None:
    word = "allow" if lenient else "refuse"
    plugin = await make_plugin(on_client_failure=word, on_tunnel_failure=word, on_request_failure=word)
    hook.status = 500

    client = await plugin.authenticate_client(make_client(), None)
    tunnel = await plugin.authorize_tunnel(make_client(), WEB, ("x",))
    request = await decide(plugin.guard_tunnel(make_tunnel()), make_request())

    if lenient:
        assert (client, tunnel, request) == (Accept(), None, None)  # None: it opens no private tunnel
    else:
        assert isinstance(client, Reject)
        assert isinstance(tunnel, Reject)
        assert request.status == 503
        assert request.headers[0][0] == "Retry-After"


async def test_a_meta_that_cannot_be_told_is_refused(hook: Any, make_plugin: Any, make_client: MakeClient) -> None:
    plugin = await make_plugin(on_tunnel_failure="allow")

    answer = await plugin.authorize_tunnel(make_client(), ForwardRequest.parse("/web#meta=MWU5OTk"), ("x",))  # 1e999

    assert isinstance(answer, Reject)
    assert hook.asked == []


# Signed answers


async def test_a_signed_answer_counts_only_for_its_question(
    hook: Any, make_plugin: Any, make_client: MakeClient, count: Any
) -> None:
    plugin = await make_plugin(signed_answers=True, breaker_failures=100)
    hook.answer = {"decision": "accept"}

    assert isinstance(await plugin.authenticate_client(make_client(), None), Reject)
    hook.sign_with = "another secret, long"
    assert isinstance(await plugin.authenticate_client(make_client(), None), Reject)
    hook.sign_with = "a secret of the tests"
    assert isinstance(await plugin.authenticate_client(make_client(), None), Accept)
    hook.signed_at = int(time.time()) - 4000
    assert isinstance(await plugin.authenticate_client(make_client(), None), Reject)

    assert count(plugin, "asks_total", outcome="unsigned") == 3


async def test_secrets_can_be_changed_while_all_runs(hook: Any, make_plugin: Any, make_client: MakeClient) -> None:
    plugin = await make_plugin(secrets=("the new secret, long", "a secret of the tests"), signed_answers=True)
    hook.answer, hook.sign_with = {"decision": "accept"}, "a secret of the tests"

    assert isinstance(await plugin.authenticate_client(make_client(), None), Accept)


async def test_at_the_stop_questions_are_given_up(hook: Any, make_plugin: Any, make_client: MakeClient) -> None:
    plugin = await make_plugin(timeout=20.0)
    hook.gate = asyncio.Event()
    waiting = asyncio.ensure_future(plugin.authenticate_client(make_client(), None))
    async with asyncio.timeout(10):
        while not hook.asked:
            await asyncio.sleep(0.01)

    await plugin._askers[0].stop()

    with pytest.raises(asyncio.CancelledError):
        await waiting
