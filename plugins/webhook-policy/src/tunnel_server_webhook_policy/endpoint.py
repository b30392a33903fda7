"""The endpoint, over HTTP."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp

from tunnel_server_webhook_policy.signing import HEADER, BadSignature, sign, verify

MAX_ANSWER = 64 * 1024  # octets
USER_AGENT = "tunnel-server-webhook-policy/1"


class AskFailed(Exception):
    """The endpoint gave no answer. ``outcome`` is what is counted.

    ``blame`` tells whether that says something about the endpoint, and not about the one question. ``status`` is
    that of an answer that is none, else 0.
    """

    def __init__(self, outcome: str, text: str, blame: bool = True, status: int = 0) -> None:
        super().__init__(text)
        self.outcome = outcome
        self.blame = blame
        self.status = status


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """``timeout`` in seconds, for all of one exchange; ``context`` for https; ``signed`` asks for signed answers."""

    secrets: tuple[str, ...]
    timeout: float = 2.0
    connections: int = 20
    context: ssl.SSLContext | None = None
    signed: bool = False


class Endpoint:
    """Posts signed JSON. Redirects are not followed, cookies are not kept, answers are not decompressed."""

    def __init__(self, options: EndpointOptions) -> None:
        self._options = options
        self._timeout = aiohttp.ClientTimeout(total=options.timeout)

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            limit=self._options.connections, ssl=True if self._options.context is None else self._options.context
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def post(self, url: str, ident: str, body: bytes) -> bytes:
        """Return the answer's body. ``ident`` is the question's id, that a signed answer is bound to.

        Raises:
            AskFailed: there is none, or none that may be used.
        """
        headers = {
            "Content-Type": "application/json",
            "X-Tunnel-Id": ident,
            HEADER: sign(self._options.secrets, body, int(time.time())),
        }
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                answer = await _read(response)
                self._check(response, ident, answer)
                return answer
        except TimeoutError:
            raise AskFailed("timeout", f"no answer within {self._options.timeout:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise AskFailed("unreachable", f"{type(error).__name__}: {str(error)[:200]}") from None

    def _check(self, response: aiohttp.ClientResponse, ident: str, answer: bytes) -> None:
        status = response.status
        if status not in (200, 204):
            # 4xx is about this one question, which a visitor may have made so; the endpoint lives
            blame = not 400 <= status < 500 or status in (401, 403, 404, 408, 429)
            raise AskFailed("status", f"it answered {status}", blame, status)
        if self._options.signed:
            try:
                signed = ident.encode() + b"." + answer
                verify(self._options.secrets, response.headers.get(HEADER, ""), signed, time.time())
            except BadSignature as error:
                raise AskFailed("unsigned", f"its answer's signature: {error}") from None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > MAX_ANSWER:
            raise AskFailed("too_large", f"its answer is longer than {MAX_ANSWER >> 10} KiB")
        parts.append(part)
    return b"".join(parts)
