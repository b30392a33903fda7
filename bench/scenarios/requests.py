"""Small requests: on kept connections, on new ones, over many tunnels, and as websocket messages."""

from __future__ import annotations

import json
import subprocess
import time

from basics import HERE, PY
from loads import ManyTunnels, measured_wrk
from measuring import Meter
from proctree import rss_mib

SMALL_POINTS = [
    # path, its name, connections, whether a goal speaks of it
    ("/", "2B", 1, True),
    ("/", "2B", 16, False),
    ("/", "2B", 64, True),
    ("/", "2B", 256, False),
    ("/1k", "1k", 16, False),
    ("/1k", "1k", 64, False),
    ("/100k", "100k", 16, False),
]


def small(b):
    wanted = [p for p in b.o.small_points.split(",") if p]
    for path, size, conns, goal in SMALL_POINTS:
        if wanted and f"{size} c{conns}" not in wanted:
            continue
        name = f"small {size} c{conns}"
        b.each(
            lambda t: b.put(name, t, measured_wrk(t, b.origin, path, conns, b.o.duration)),
            label=name,
            goal=goal,
        )


def close(b):
    def measure(t):
        b.put("close 2B c16", t, measured_wrk(t, b.origin, "/", 16, b.o.duration, ["Connection: close"]))

    b.each(measure, label="close 2B c16", goal=True)


def ws(b):
    for conns in (1, 100):

        def measure(t):
            port, host = t.endpoint("wsk")
            command = [PY, str(HERE / "wsload.py"), str(port), host, str(conns), str(b.o.duration)]
            with Meter(t, b.origin) as m:
                p = subprocess.run(command, capture_output=True, text=True, timeout=60)
            if p.returncode:
                raise RuntimeError(p.stderr[-300:])
            r = json.loads(p.stdout)
            figures = {k: r[k] for k in ("rate", "p50_ms", "p99_ms", "lost")}
            b.put(f"ws c{conns}", t, figures | m.per(r["messages"] / 1000, "s_per_1000"))

        b.each(measure, label=f"ws c{conns}", goal=conns == 100)


def many(b):
    """Many tunnels of many clients, ten each, with one load over all of them."""
    each = 10
    for t, reps in b.plan(b.servers, goal=False):
        b.revive(t, "many")
        with ManyTunnels(t, b.work, b.o.tunnels // each, each) as tunnels:
            for _ in range(reps):
                figures = tunnels.load(b.origin, 64, b.o.duration)
                figures |= {"up": tunnels.up, "rss_MiB": rss_mib(t.server_pids())}
                b.put(f"many {len(tunnels.hosts)} tunnels c64", t, figures)
        time.sleep(1)
