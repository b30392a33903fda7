"""A real server, real SSH clients, a real endpoint."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from tunnel_server_webhook_policy import WebhookPolicy

from tunnel_server.testing import Refused, run_server


def settings(hook: Any, **ours: object) -> dict[str, object]:
    usual = {"url": hook.url, "secrets": "a secret of the tests".replace(" ", "-"), "insecure": "loopback", **ours}
    return {f"webhook_policy_{name}": value for name, value in usual.items()}


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch, hook: Any) -> None:
    """Secrets have no blanks where they are read from text."""
    monkeypatch.setitem(type(hook)._check.__globals__, "SECRET", "a-secret-of-the-tests")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def test_the_endpoint_keeps_a_client_out_and_says_why(hook: Any) -> None:
    async with run_server([WebhookPolicy], settings=settings(hook, decide="client")) as server:
        hook.answer = {"decision": "reject", "reason": "This key is not on the list."}
        with pytest.raises(Refused, match="not on the list"):
            async with server.ssh():
                pass

        hook.answer = {"decision": "accept", "attributes": {"team": "a"}}
        async with server.ssh():
            [client] = server.server.clients()
            assert client.attributes["webhook-policy.team"] == "a"


async def test_the_endpoint_hangs_up_on_a_client_when_its_time_is_over(hook: Any) -> None:
    hook.answer = {"decision": "accept", "expiresAt": time.time() + 1}

    async with run_server([WebhookPolicy], settings=settings(hook, decide="client")) as server:
        async with server.ssh():
            await until(lambda: not server.server.clients())


async def test_the_endpoint_makes_a_tunnel_private(hook: Any) -> None:
    hook.answer = {"decision": "accept", "access": "private"}

    async with run_server([WebhookPolicy], settings=settings(hook, decide="tunnel")) as server:
        async with server.tunnel() as tunnel:
            assert tunnel.tunnel.request.access == "private"
            assert (await tunnel.get()).status != 200
    assert hook.kinds("tunnel")[0]["tunnel"]["name"] == "web"


async def test_an_endpoint_that_is_down_opens_no_tunnel(hook: Any) -> None:
    hook.status = 500

    async with run_server([WebhookPolicy], settings=settings(hook, decide="tunnel")) as server:
        with pytest.raises(Refused):
            async with server.tunnel():
                pass


async def test_every_kind_of_answer_reaches_the_visitor(hook: Any) -> None:
    async with run_server([WebhookPolicy], settings=settings(hook, decide="request")) as server:
        async with server.tunnel() as tunnel:
            hook.answer = {"decision": "allow"}
            assert (await tunnel.get("/allow")).status == 200
            hook.answer = {"decision": "refuse", "status": 429, "reason": "Enough.", "retryAfter": 7}
            refused = await tunnel.get("/refuse")
            hook.answer = {"decision": "challenge", "challenge": 'Basic realm="x"'}
            challenged = await tunnel.get("/challenge")
            hook.answer = {"decision": "login", "location": "https://login.example.com/"}
            sent = await tunnel.get("/login")

    assert (refused.status, refused.headers["Retry-After"]) == (429, "7")
    assert (challenged.status, challenged.headers["WWW-Authenticate"]) == (401, 'Basic realm="x"')
    assert (sent.status, sent.headers["Location"]) == (307, "https://login.example.com/")


async def test_a_token_meant_for_the_endpoint_does_not_reach_the_service(hook: Any) -> None:
    hook.answer = {"decision": "allow", "hide": ["x-token"]}

    async with run_server(
        [WebhookPolicy], settings=settings(hook, decide="request", forward_headers="x-token")
    ) as server:
        async with server.tunnel() as tunnel:
            seen = (await tunnel.get("/", {"X-Token": "secret"})).json()["headers"]

    assert hook.kinds("request")[0]["request"]["headers"] == {"x-token": ["secret"]}
    assert "x-token" not in seen


@pytest.mark.parametrize("lenient", [False, True])
async def test_no_failure_opens_a_private_tunnel(hook: Any, lenient: bool) -> None:
    hook.status = 500
    word = "allow" if lenient else "refuse"

    async with run_server(
        [WebhookPolicy], settings=settings(hook, decide="request", on_request_failure=word)
    ) as server:
        async with server.tunnel() as public, server.tunnel(name="/private#access=private") as private:
            assert (await public.get()).status == (200 if lenient else 503)
            assert (await private.get()).status != 200


async def test_an_answer_that_may_be_remembered_is_asked_for_once(hook: Any) -> None:
    hook.answer = {"decision": "allow", "cacheSeconds": 60}

    async with run_server([WebhookPolicy], settings=settings(hook, decide="request")) as server:
        async with server.tunnel() as tunnel:
            for _ in range(20):
                assert (await tunnel.get("/same")).status == 200
        assert server.metric("tunnel_server_webhook_policy_asks_saved_total", how="cached") == 19
    assert len(hook.kinds("request")) == 1


async def test_a_slow_endpoint_holds_up_only_what_it_decides(hook: Any) -> None:
    async with run_server(
        [WebhookPolicy], settings=settings(hook, decide="request", request_tunnels="slow-*", timeout="20s")
    ) as server:
        async with server.tunnel(name="/slow") as slow, server.tunnel(name="/quick") as quick:
            hook.gate, hook.answer = asyncio.Event(), {"decision": "allow"}
            waiting = asyncio.ensure_future(slow.get())
            await until(lambda: hook.kinds("request"))

            async with asyncio.timeout(5):
                assert (await quick.get()).status == 200
            assert not waiting.done()
            hook.gate.set()
            assert (await waiting).status == 200


async def test_events_tell_the_life_of_a_tunnel_until_the_stop(hook: Any) -> None:
    events = "tunnel_opened,tunnel_closed,request_finished"

    async with run_server([WebhookPolicy], settings=settings(hook, decide="", events=events)) as server:
        async with server.tunnel() as tunnel:
            await tunnel.get("/a?token=secret")

    told = {event["event"]: event for event in hook.events()}
    assert set(told) == {"tunnel_opened", "tunnel_closed", "request_finished"}
    assert told["request_finished"]["request"]["path"] == "/a"
    assert told["request_finished"]["request"]["status"] == 200
    assert told["tunnel_closed"]["tunnel"]["names"] == [tunnel.tunnel.label]


async def test_plain_http_stops_the_start_unless_it_is_wanted(hook: Any) -> None:
    with pytest.raises(Exception, match="insecure"):
        async with run_server([WebhookPolicy], settings=settings(hook, insecure="none")):
            pass
