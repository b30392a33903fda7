"""Load: connections that say nothing, downloads that nobody reads, and requests; prints how many were answered."""

import asyncio
import sys

SILENT, UNREAD, WORKERS, EACH = 500, 150, 40, 25

server, host = sys.argv[1], sys.argv[2].split("/")[2]


async def ask(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(server, 3000)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return reader, writer


async def work() -> int:
    reader, writer = await ask("/")
    answered = 0
    for _ in range(EACH):
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(len("hello from the app"))
        answered += head.startswith(b"HTTP/1.1 200") and body == b"hello from the app"
        writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return answered


async def main() -> None:
    silent = await asyncio.gather(*(asyncio.open_connection(server, 3000) for _ in range(SILENT)))
    unread = await asyncio.gather(*(ask("/large") for _ in range(UNREAD)))
    await asyncio.gather(*(reader.readuntil(b"\r\n\r\n") for reader, _ in unread))
    print(sum(await asyncio.gather(*(work() for _ in range(WORKERS)))), "answered")
    for _, writer in [*silent, *unread]:
        writer.transport.abort()


asyncio.run(main())
