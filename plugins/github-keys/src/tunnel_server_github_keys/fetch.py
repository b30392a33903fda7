"""One question over HTTP: bounded in time and size, never redirected, and asked again only when that is welcome."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import aiohttp

from tunnel_server_github_keys.version import VERSION

LIMIT = 10.0  # seconds for a whole answer
MAX_BODY = 1024 * 1024  # bytes; a page of 100 members has some 150 KiB, one of keys a few
MAX_PAUSE = 3600.0  # seconds, whatever a server asks for
PAUSE = 60.0  # seconds, where a server says "slow down" and not for how long
MAX_ETAG = 200  # characters


class Unavailable(Exception):
    """There is no answer that can be used now; the text says why."""


class RateLimited(Unavailable):
    """The server wants to be left alone until ``until``, in seconds since the epoch."""

    def __init__(self, until: float) -> None:
        super().__init__("the server limits how often it is asked")
        self.until = until


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. ``status`` is 200, 304 or 404; ``more`` tells whether a page is not the last."""

    status: int
    body: bytes = b""
    etag: str = ""
    more: bool = False


class Fetcher:
    """Asks through one session. Use as an async context manager; at most ``parallel`` questions at a time."""

    def __init__(self, parallel: int = 4, proxy: str = "", limit: float = LIMIT) -> None:
        self._parallel = parallel
        self._proxy = proxy or None
        self._limit = limit
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Begin."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._parallel),
            timeout=aiohttp.ClientTimeout(total=self._limit),
            headers={"User-Agent": f"tunnel-server-github-keys/{VERSION}"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """End; safe to repeat."""
        if self._session is not None:
            await self._session.close()

    async def get(self, url: str, etag: str = "", headers: Mapping[str, str] | None = None) -> Reply:
        """Return the answer of ``url``, which is 304 if it is still the one with ``etag``.

        Raises:
            Unavailable: no answer, one that is too large or slow, or of another status.
            RateLimited: the server asks for a pause.
        """
        assert self._session is not None
        sent = dict(headers or {}) | ({"If-None-Match": etag} if etag else {})
        try:
            async with self._session.get(url, headers=sent, allow_redirects=False, proxy=self._proxy) as response:
                return await _read(response)
        except TimeoutError:
            raise Unavailable(f"no whole answer within {self._limit:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unavailable(f"{type(error).__name__}: {error}"[:200]) from None


async def _read(response: aiohttp.ClientResponse) -> Reply:
    status = response.status
    if status == 429 or (status == 403 and _is_limit(response.headers)):
        raise RateLimited(_pause_until(response.headers, time.time()))
    if status in (304, 404, 410):
        return Reply(304 if status == 304 else 404)
    if status != 200:
        raise Unavailable(f"status {status}")
    body = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > MAX_BODY:
            raise Unavailable(f"the answer is larger than {MAX_BODY} bytes")
    etag = response.headers.get("ETag", "")
    return Reply(
        200, bytes(body), etag if len(etag) <= MAX_ETAG and etag.isprintable() else "", "next" in response.links
    )


def _is_limit(headers: Mapping[str, str]) -> bool:
    return "Retry-After" in headers or headers.get("X-RateLimit-Remaining") == "0"


def _pause_until(headers: Mapping[str, str], now: float) -> float:
    """Return until when a server wants no more questions (RFC 9110 §10.2.3, and GitHub's own fields)."""
    told = headers.get("Retry-After", "")
    reset = headers.get("X-RateLimit-Reset", headers.get("RateLimit-Reset", ""))
    until = now + PAUSE
    if told.isascii() and told.isdigit():
        until = now + float(told[:12])
    elif told:
        until = _date(told, until)
    elif reset.isascii() and reset.isdigit():
        until = float(reset[:12])
    return min(max(until, now + 1.0), now + MAX_PAUSE)


def _date(text: str, otherwise: float) -> float:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return otherwise
