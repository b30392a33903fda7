"""Long transfers: as fast as they go, and with a slow end."""

from __future__ import annotations

import json
import socket
import threading
import time

from basics import sparse_file
from loads import curl
from measuring import Meter
from proctree import RssWatch, rss_mib


def transfers(b, scenario, t, tunnel, n, extra, path, key):
    """n transfers at once with curl; each ends at --stream-limit even if it is not complete."""
    port, host = t.endpoint(tunnel)
    command = [*extra, "-H", f"Host: {host}", f"http://127.0.0.1:{port}{path}"]
    with RssWatch(t.server_pids()) as memory, Meter(t, b.origin) as m:
        t0 = time.perf_counter()
        ps = [curl(command, b.o.stream_limit) for _ in range(n)]
        rs = [json.loads(p.communicate()[0]) for p in ps]
        took = time.perf_counter() - t0
    size = sum(r[key] for r in rs)
    figures = {
        "MB_per_s": size / 1e6 / took,
        "not_200": sum(r["code"] != "200" for r in rs),
        "peak_growth_MiB": memory.peak - memory.start,
    }
    b.put(scenario, t, figures | m.per(size / 1e9, "s_per_GB"))


def stream(b):
    kinds = b.o.stream_kinds.split(",")
    files = {name: sparse_file(b.work / name, size) for name, size in (("256MiB", 256 << 20), ("1GiB", 1 << 30))}
    for n in (1, 4):
        if f"down{n}" not in kinds:
            continue
        name = f"download 1GiB x{n}"
        b.each(lambda t: transfers(b, name, t, "web", n, [], "/1g", "down"), label=name, goal=n == 1)
    for n, size in ((1, "1GiB"), (1, "256MiB"), (4, "256MiB")):
        if f"up{n}" not in kinds:
            continue
        name = f"upload {size} x{n}"
        extra = ["-T", str(files[size]), "-H", "Expect:"]
        goal = (n, size) == (1, "256MiB")
        b.each(lambda t: transfers(b, name, t, "upl", n, extra, "/up", "up"), label=name, goal=goal)


def read_slowly(port, host, seconds, got):
    """Read the 1 GiB file at 1 MB/s for so long, then close; adds what it read to the list got."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        s.connect(("127.0.0.1", port))
        s.sendall(f"GET /1g HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        size, begun = 0, time.time()
        while time.time() - begun < seconds:
            chunk = s.recv(50_000)
            if not chunk:
                break
            size += len(chunk)
            time.sleep(max(0, size / 1e6 - (time.time() - begun)))
    got.append(size)


def slow_readers(b, t, scenario, n):
    port, host = t.endpoint("web")
    got = []
    with RssWatch(t.server_pids()) as w, RssWatch(t.client_pids()) as wc:
        readers = [
            threading.Thread(target=read_slowly, args=(port, host, b.o.slow_seconds, got), daemon=True)
            for _ in range(n)
        ]
        for r in readers:
            r.start()
        time.sleep(b.o.slow_seconds - 0.5)  # shortly before they close: what is held at the end
        grown = rss_mib(t.server_pids()) - w.start
        for r in readers:
            r.join(30)
        time.sleep(1)
    if len(got) != n or min(got) < 0.5e6 * b.o.slow_seconds:
        raise RuntimeError(f"{n} slow readers got {got} octets in {b.o.slow_seconds} s")
    figures = {
        "rss_growth_MiB": grown,
        "peak_growth_MiB": w.peak - w.start,
        "after_close_MiB": w.end - w.start,
        "got_MB": sum(got) / 1e6,
        "sshclient_growth_MiB": wc.peak - wc.start,
    }
    b.put(scenario, t, figures)


def slow_origin(b, t):
    """An upload of which the origin reads 1 MB/s."""
    port, host = t.endpoint("upl")
    big = sparse_file(b.work / "1GiB", 1 << 30)
    command = ["-T", str(big), "-H", "Expect:", "-H", f"Host: {host}", f"http://127.0.0.1:{port}/slow"]
    with RssWatch(t.server_pids()) as w:
        r = json.loads(curl(command, b.o.slow_seconds).communicate()[0])
        grown = rss_mib(t.server_pids()) - w.start
    figures = {"rss_growth_MiB": grown, "peak_growth_MiB": w.peak - w.start, "accepted_MB": r["up"] / 1e6}
    b.put("slow origin 1MB/s", t, figures)


def slow(b):
    for n, name, goal in ((1, "slow reader 1MB/s", False), (4, "slow readers x4", True)):
        b.each(lambda t: slow_readers(b, t, name, n), b.servers, name, goal)
    b.each(lambda t: slow_origin(b, t), b.servers, "slow origin 1MB/s")
