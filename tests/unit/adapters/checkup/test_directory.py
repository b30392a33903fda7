"""A CA's directory, of CAs that answer badly."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial

import pytest

from tunnel_server.adapters.checkup import directory
from tunnel_server.adapters.checkup.aside import aside
from tunnel_server.adapters.checkup.trouble import EXPECTED, trouble_of

GOOD = b'{"newOrder": "x"}'


async def answered(answer: bytes) -> float | None:
    """Return what is read of somebody who gives ``answer`` to everything."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        read = partial(directory.read, f"http://127.0.0.1:{port}/dir", ssl.create_default_context(), 5)
        return await aside(read, 10)


def ok(fields: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n" + body


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"\x1b[31mhello\r\n\r\n", "the answer is no HTTP"),
        (ok(b"X: " + b"a" * 70_000 + b"\r\n", GOOD), "the answer is no HTTP: got more than 65536 bytes"),
        (ok(b"A: b\r\n" * 200, GOOD), "the answer is no HTTP: got more than 100 headers"),
        (ok(b"Transfer-Encoding: chunked\r\n", b"zz\r\n"), "the answer is no HTTP: IncompleteRead"),
        (ok(b"", b"[" * 65_000), "what answers is no directory of an ACME server"),
        (ok(b"", b'{"a":' + b"9" * 60_000 + b"}"), "what answers is no directory of an ACME server"),
        (ok(b"", b"\xff\xfe"), "what answers is no directory of an ACME server"),
        (b"HTTP/1.1 302 x\r\nLocation: file:///etc/passwd\r\n\r\n", "it answers with status 302"),
        (b"HTTP/1.1 503 \x1b[31mred\r\n\r\n", "it answers with status 503"),
        (b"", "the connection was closed without an answer"),
    ],
)
async def test_what_is_no_directory_is_told_in_plain_words(answer: bytes, text: str) -> None:
    with pytest.raises(EXPECTED) as raised:
        await answered(answer)

    assert trouble_of(raised.value, 5).text.startswith(text)


async def test_the_time_is_told_if_it_can_be() -> None:
    after = await answered(ok(b"Date: Fri, 01 Jan 2100 00:00:00 GMT\r\n", GOOD))

    assert after is not None and after > 0
    assert await answered(ok(b"Date: Mon, 01 Jan 99999999999999999999 00:00:00 GMT\r\n", GOOD)) is None
    assert await answered(ok(b"Date: yesterday\r\n", GOOD)) is None
