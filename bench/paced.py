"""Open-loop load: requests at a fixed pace, whether or not earlier ones have been answered.

  paced.py PORT HOST PATH PER_SECOND SECONDS [https]

Prints a line when its connections are open, waits for one, and prints one JSON line at the end.

A request takes the kept connection that has been idle longest, or a new one if none is idle. Its latency counts from
the moment it was due, so neither a busy connection nor a late sender makes an answer look quicker than it was for
who wanted it; late_p99_ms says how late this program itself was. It waits with select, since an event loop rounds its
waiting times to whole milliseconds; and it goes before other programs where it may, since visitors do not share their
processor with the server.
"""

import collections
import contextlib
import json
import os
import select
import socket
import ssl
import sys
import time

port, host, path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
per_second, seconds = float(sys.argv[4]), float(sys.argv[5])
over_tls = sys.argv[6:] == ["https"]

REQUEST = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE
TLS.set_alpn_protocols(["http/1.1"])
KEPT = 10  # connections opened before the start
PATIENCE = 5.0  # seconds that the last answers may take


class Connection:
    def __init__(self):
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if over_tls:
            self.socket = TLS.wrap_socket(self.socket, server_hostname=host)
            self.socket.setblocking(False)  # a record may be a ticket, and no answer

    def fileno(self):
        return self.socket.fileno()

    def send(self, due):
        self.due, self.data = due, b""
        self.socket.sendall(REQUEST)

    def read(self):
        """True when the whole answer is there; raises if there will be none, or not a good one."""
        try:
            chunk = self.socket.recv(65536)
        except ssl.SSLWantReadError:
            return False
        if not chunk:
            raise ConnectionError("closed")
        self.data += chunk
        head, end, body = self.data.partition(b"\r\n\r\n")
        if not end:
            return False
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(head[:80])
        return len(body) >= content_length(head)


def content_length(head):
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ConnectionError("an answer without Content-Length")


def percentile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] * 1e3


def warm():
    """Connections that have been answered once, so that each has its way through the tunnel."""
    idle = collections.deque()
    for _ in range(KEPT):
        c = Connection()
        c.send(0)
        while not c.read():
            select.select([c], [], [], PATIENCE)
        idle.append(c)
    return idle


def run(idle):
    latencies, late, lost, opened = [], [], 0, 0
    waiting: set[Connection] = set()
    start = time.perf_counter()
    due = [start + n / per_second for n in range(int(per_second * seconds))]
    end = start + seconds + PATIENCE
    sent = 0
    while sent < len(due) or waiting:
        now = time.perf_counter()
        if now > end:
            break
        if sent < len(due) and now >= due[sent]:
            late.append(now - due[sent])
            try:
                if not idle:
                    opened += 1
                c = idle.popleft() if idle else Connection()
                c.send(due[sent])
                waiting.add(c)
            except OSError:
                lost += 1
            sent += 1
            continue
        until = due[sent] if sent < len(due) else end
        for c in select.select(list(waiting), [], [], max(0, until - now))[0]:
            try:
                if not c.read():
                    continue
                latencies.append(time.perf_counter() - c.due)
                idle.append(c)
            except OSError:
                lost += 1
            waiting.discard(c)
    # What was never answered took at least this long.
    latencies += [time.perf_counter() - c.due for c in waiting]
    lost += len(waiting)
    return {
        "requests": sent,
        "lost": lost,
        "opened": opened,
        "p50_ms": percentile(latencies, 0.5),
        "p99_ms": percentile(latencies, 0.99),
        "max_ms": percentile(latencies, 1),
        "late_p99_ms": percentile(late, 0.99),
    }


with contextlib.suppress(OSError):
    os.nice(-10)
connections = warm()
print('"ready"', flush=True)
sys.stdin.readline()
print(json.dumps(run(connections)), flush=True)
