"""Origin for what nginx cannot do: a websocket echo and an upload sink.

  pyorigin.py WS_PORT SINK_PORT

The sink answers '<bytes>' when the whole body (Content-Length or chunked) is in.
A path that starts with /slow makes it read at 1 MB/s.
"""

import asyncio
import sys

import uvloop
from aiohttp import WSMsgType, web


async def echo(request):
    ws = web.WebSocketResponse(compress=False)
    await ws.prepare(request)
    async for msg in ws:
        if msg.type is WSMsgType.TEXT:
            await ws.send_str(msg.data)
        elif msg.type is WSMsgType.BINARY:
            await ws.send_bytes(msg.data)
    return ws


class Sink(asyncio.BufferedProtocol):
    SLOW = 1_000_000

    def __init__(self):
        self.buf = bytearray(1 << 20)
        self.view = memoryview(self.buf)

    def connection_made(self, transport):
        self.transport = transport
        self._reset()
        self.head = b""

    def _reset(self):
        self.in_body = False
        self.left = self.got = 0
        self.chunked = self.slow = False

    def get_buffer(self, _hint):
        return self.view[:32768] if self.slow else self.view

    def buffer_updated(self, n):
        if not self.in_body:
            self.head += bytes(self.view[:n])
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, rest = self.head[:end].lower(), self.head[end + 4 :]
            self.head = b""
            self.in_body = True
            self.slow = b" /slow" in head.split(b"\r\n", 1)[0]
            for line in head.split(b"\r\n")[1:]:
                key, _, value = line.partition(b":")
                if key == b"content-length":
                    self.left = int(value)
                elif key == b"transfer-encoding" and b"chunked" in value:
                    self.chunked = True
                elif key == b"expect":
                    self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._body(rest, len(rest))
        else:
            self._body(self.view[max(0, n - 5) : n] if self.chunked else b"", n)
        if self.slow:
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(n / self.SLOW, self._resume)

    def _resume(self):
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def _body(self, tail, n):
        self.got += n
        if bytes(tail[-5:]) == b"0\r\n\r\n" if self.chunked else self.got >= self.left:
            body = b"%d" % self.got
            self.transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
            )
            self._reset()

    def connection_lost(self, _exc):
        pass


async def main():
    app = web.Application()
    app.router.add_get("/{tail:.*}", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1])).start()
    await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", int(sys.argv[2]))
    await asyncio.Event().wait()


uvloop.run(main())
