"""Small requests beside two downloads on the same tunnel."""

from __future__ import annotations

import json
import time

from goals import MIXED
from loads import Helper, curl, wrk
from measuring import Meter

PER_SECOND = 50


class Downloads(Helper):
    """Downloads that go on until the block ends; a mark tells what has arrived so far."""

    def __init__(self, target, count):
        super().__init__("downloads.py", *target.endpoint("web"), "/1g", count)
        self.receive()  # all have begun

    def mark(self):
        r = self.ask("mark")
        if r["failed"]:
            raise RuntimeError(f"download: {r['failed']}")
        return r


def megabytes_and_seconds(begin, end):
    return (end["bytes"] - begin["bytes"]) / 1e6, end["time"] - begin["time"]


def mixed(b):
    """50 requests a second, each due at its time; the downloads' rate alone is taken half before, half after.

    The same downloads go on all the time, so neither their beginning nor what the machine does in the meantime
    counts for one side only.
    """
    seconds = b.o.duration + 2

    def alone(downloads):
        begin = downloads.mark()
        time.sleep(seconds / 2)
        return megabytes_and_seconds(begin, downloads.mark())

    def measure(t):
        port, host = t.endpoint("web")
        with Downloads(t, 2) as downloads:
            time.sleep(0.7)
            before = alone(downloads)
            with Helper("paced.py", port, host, "/", PER_SECOND, seconds) as paced:
                paced.receive()  # its connections are open
                with Meter(t, b.origin) as m:
                    begin = downloads.mark()
                    r = paced.ask("go")
                    beside = megabytes_and_seconds(begin, downloads.mark())
            after = alone(downloads)
        rate_alone = (before[0] + after[0]) / (before[1] + after[1])
        rate_beside = beside[0] / beside[1]
        figures = {k: r[k] for k in ("p50_ms", "p99_ms", "max_ms", "late_p99_ms", "requests", "lost")}
        figures |= {
            "download_MB_per_s": rate_beside,
            "download_alone_MB_per_s": rate_alone,
            "download_share": rate_beside / rate_alone,
            "server_busy_cores": m.cpu["server"] / m.wall,
            "steal": m.steal,
        }
        b.put(MIXED, t, figures)

    b.each(measure, label=MIXED, goal=True)


def mixed_closed(b):
    """4 connections that ask again as soon as they are answered, beside two downloads."""
    name = "mixed c4 + 2 downloads"

    def measure(t):
        port, host = t.endpoint("web")
        limit = b.o.duration + 2
        ps = [curl(["-H", f"Host: {host}", f"http://127.0.0.1:{port}/1g"], limit) for _ in range(2)]
        time.sleep(0.7)
        r = wrk(port, host, "/", 4, b.o.duration)
        down = sum(json.loads(p.communicate()[0])["down"] for p in ps)
        figures = {k: r[k] for k in ("rate", "p50_ms", "p99_ms", "errors")}
        b.put(name, t, figures | {"download_MB_per_s": down / 1e6 / limit})

    b.each(measure, label=name)
