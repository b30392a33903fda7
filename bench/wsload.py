"""Websocket ping-pong load: every connection keeps one message in flight.

wsload.py PORT HOST CONNECTIONS SECONDS [PAYLOAD]   -> one JSON line
"""

import asyncio
import json
import os
import sys
import time

import uvloop

port, host, conns, seconds = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
payload = os.urandom(int(sys.argv[5]) if len(sys.argv) > 5 else 32)
assert len(payload) < 126
mask = os.urandom(4)
FRAME = bytes([0x82, 0x80 | len(payload)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))
REPLY = 2 + len(payload)
lat: list[float] = []
stop_at = 0.0
bad = 0


class Conn(asyncio.Protocol):
    def __init__(self):
        self.ready = asyncio.get_running_loop().create_future()
        self.head = b""
        self.got = 0
        self.open = False

    def connection_made(self, transport):
        self.t = transport
        transport.write(
            (
                f"GET /echo HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            ).encode()
        )

    def data_received(self, data):
        if not self.open:
            self.head += data
            if b"\r\n\r\n" in self.head:
                self.open = True
                if not self.head.startswith(b"HTTP/1.1 101"):
                    self.ready.set_exception(RuntimeError(self.head[:200].decode("latin1")))
                else:
                    self.ready.set_result(self)
            return
        self.got += len(data)
        if self.got >= REPLY:
            now = time.perf_counter()
            lat.append(now - self.sent)
            self.got = 0
            if now < stop_at:
                self.send()

    def send(self):
        self.sent = time.perf_counter()
        self.t.write(FRAME)

    def connection_lost(self, _exc):
        global bad
        if time.perf_counter() < stop_at:
            bad += 1


async def main():
    global stop_at
    loop = asyncio.get_running_loop()
    t0 = time.perf_counter()
    cs = [(await loop.create_connection(Conn, "127.0.0.1", port))[1] for _ in range(conns)]
    await asyncio.wait_for(asyncio.gather(*(c.ready for c in cs)), 15)
    opened = time.perf_counter() - t0
    start = time.perf_counter()
    stop_at = start + seconds
    for c in cs:
        c.send()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - start
    n = len(lat)
    s = sorted(lat)
    print(
        json.dumps(
            {
                "messages": n,
                "seconds": took,
                "rate": n / took,
                "open_s": opened,
                "lost": bad,
                "p50_ms": s[n // 2] * 1e3 if n else None,
                "p99_ms": s[int(n * 0.99)] * 1e3 if n else None,
            }
        )
    )


uvloop.run(main())
