"""A visitor of tunnels and of the server's own pages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

LIMIT = 30.0  # seconds for one answer


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, read whole. ``headers`` compare without regard to case; ``body`` is decoded from gzip and the like."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8; what is not, is replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return what the body says as JSON; raises ValueError if it is none."""
        return json.loads(self.body)


class Visitor:
    """Asks over HTTP on loopback. Follows no redirect and keeps no cookie, so that tests see both."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._port = port

    async def ask(self, method: str, host: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Return the answer of ``host``, a host name with or without port, to a request for ``path`` as it stands."""
        url = URL(f"http://127.0.0.1:{self._port}{path}", encoded=True)
        asked = self._session.request(
            method, url, headers={"Host": host, **headers}, data=body or None, allow_redirects=False
        )
        async with asked as response:
            return Answer(response.status, response.headers, await response.read())


def new_session() -> aiohttp.ClientSession:
    """Return a session that the caller closes; each request has a connection of its own."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True, limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=LIMIT),
        trust_env=False,
    )
