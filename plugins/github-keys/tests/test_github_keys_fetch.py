"""One question, asked of a real server that misbehaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web
from tunnel_server_github_keys.fetch import MAX_BODY, MAX_PAUSE, PAUSE, Fetcher, RateLimited, Reply, Unavailable


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    fetcher = Fetcher(limit=5.0)
    await fetcher.open()
    yield fetcher
    await fetcher.close()


async def test_an_answer_brings_its_tag_and_the_tag_brings_304(forge: Any, fetcher: Fetcher) -> None:
    forge.keys["ada"] = ["ssh-ed25519 AAAA"]
    url = f"{forge.url}/ada.keys"

    first = await fetcher.get(url)
    second = await fetcher.get(url, first.etag)

    assert (first.status, first.body, first.more) == (200, b"ssh-ed25519 AAAA\n", False)
    assert second == Reply(304)
    assert await fetcher.get(f"{forge.url}/nobody.keys") == Reply(404)


async def test_headers_go_where_they_were_given_to_and_nowhere_else(forge: Any, fetcher: Fetcher) -> None:
    await fetcher.get(f"{forge.url}/api", headers={"Authorization": "Bearer t0ken"})
    await fetcher.get(f"{forge.url}/ada.keys")

    assert [request.headers.get("Authorization") for request in forge.asked] == ["Bearer t0ken", None]
    assert forge.asked[0].headers["User-Agent"].startswith("tunnel-server-github-keys/")


@pytest.mark.parametrize("status", [301, 302, 400, 401, 403, 500, 502, 503])
async def test_any_other_status_is_no_answer_and_no_redirect_is_followed(
    forge: Any, fetcher: Fetcher, status: int
) -> None:
    forge.behave = lambda _: web.Response(status=status, headers={"Location": f"{forge.url}/elsewhere"})

    with pytest.raises(Unavailable, match=str(status)) as caught:
        await fetcher.get(f"{forge.url}/ada.keys")

    assert not isinstance(caught.value, RateLimited)
    assert len(forge.asked) == 1


async def test_a_huge_body_is_not_read_to_its_end(forge: Any, fetcher: Fetcher) -> None:
    sent = 0

    async def pour(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)
            sent += 65536

    forge.behave = pour

    with pytest.raises(Unavailable, match="larger"):
        await fetcher.get(f"{forge.url}/ada.keys")

    assert sent < 100 * MAX_BODY


async def test_a_small_body_that_unpacks_to_a_huge_one_is_not_unpacked_to_its_end(forge: Any, fetcher: Fetcher) -> None:
    def bomb(_: web.Request) -> web.Response:
        response = web.Response(body=b"0" * (8 * MAX_BODY))
        response.enable_compression(web.ContentCoding.gzip)
        return response

    forge.behave = bomb

    with pytest.raises(Unavailable, match="larger"):
        await fetcher.get(f"{forge.url}/ada.keys")


async def test_a_slow_body_ends_with_the_time_limit(forge: Any) -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"s")
            await asyncio.sleep(0.02)

    forge.behave = trickle
    fetcher = Fetcher(limit=0.3)
    await fetcher.open()

    try:
        with pytest.raises(Unavailable, match="no whole answer"):
            await fetcher.get(f"{forge.url}/ada.keys")
    finally:
        await fetcher.close()


async def test_a_server_that_is_down_is_no_answer(forge: Any, fetcher: Fetcher) -> None:
    await forge.go_down()

    with pytest.raises(Unavailable, match="Connect"):
        await fetcher.get(f"{forge.url}/ada.keys")


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {}, PAUSE),
        (429, {"Retry-After": "120"}, 120),
        (403, {"Retry-After": "7"}, 7),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "+300"}, 300),
        (429, {"RateLimit-Reset": "+300"}, 300),
        (429, {"Retry-After": "date+200"}, 200),
        (429, {"Retry-After": "soon"}, PAUSE),
        (429, {"Retry-After": "99999999999999999999"}, MAX_PAUSE),
        (429, {"Retry-After": "0"}, 1),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}, 1),
    ],
)
async def test_a_limit_says_until_when(
    forge: Any, fetcher: Fetcher, status: int, headers: dict[str, str], seconds: float
) -> None:
    now = time.time()
    told = {
        name: formatdate(now + 200, usegmt=True) if value.startswith("date") else str(int(now) + 300)
        for name, value in headers.items()
        if "+" in value
    }
    forge.behave = lambda _: web.Response(status=status, headers=headers | told)

    with pytest.raises(RateLimited) as caught:
        await fetcher.get(f"{forge.url}/ada.keys")

    assert seconds - 2 <= caught.value.until - now <= seconds + 20
