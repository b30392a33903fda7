"""HTTPS: what TLS adds to small requests, how many handshakes there can be, and who waits for them."""

from __future__ import annotations

import time

from goals import FLOOD, HTTPS
from loads import Handshakes, Helper, wrk, wrk_figures
from measuring import Meter

PER_SECOND = 50
VERSIONS = ("1.3", "1.2")


def speaking_tls(b):
    return [t for t in b.targets if t.has_tls]


def https(b):
    """The same load over HTTP and HTTPS, there and back, so that what the machine does besides counts for both alike."""

    def once(t, scheme):
        port, host = t.endpoint("web", scheme)
        with Meter(t, b.origin) as m:
            r = wrk(port, host, "/", 64, b.o.duration, scheme=scheme)
        return r, m

    def measure(t):
        runs = [(scheme, *once(t, scheme)) for scheme in ("http", "https", "https", "http")]
        cpu, good = ({"http": 0.0, "https": 0.0} for _ in range(2))
        for scheme, r, m in runs:
            cpu[scheme] += m.cpu["server"]
            good[scheme] += r["good"]
        figures = {
            "cpu_to_http": (cpu["https"] / good["https"]) / (cpu["http"] / good["http"]),
            "rate_to_http": good["https"] / good["http"],
            "http_cpu_s_per_1000": cpu["http"] / good["http"] * 1000,
            "errors": sum(r["errors"] for _, r, _ in runs),
        }
        b.put(HTTPS, t, wrk_figures(*runs[1][1:]) | figures)

    b.each(measure, speaking_tls(b), HTTPS, goal=True)


def handshakes(b):
    for version in VERSIONS:
        name = f"handshakes TLS {version}"

        def measure(t):
            with Handshakes(t, version) as load:
                with Meter(t, b.origin) as m:
                    load.begin(b.o.duration)
                    r = load.end()
            b.put(name, t, r | m.per(r["handshakes"] / 1000, "s_per_1000"))

        b.each(measure, speaking_tls(b), name, goal=True)


def flood(b):
    """50 requests a second on kept connections, each due at its time, while others shake hands all the time."""
    seconds = b.o.duration + 2

    def measure(t):
        port, host = t.endpoint("web", "https")
        with Helper("paced.py", port, host, "/", PER_SECOND, seconds, "https") as paced, Handshakes(t, "1.3") as load:
            paced.receive()  # its connections are open
            load.begin(seconds + 2)
            time.sleep(1)
            with Meter(t, b.origin) as m:
                r = paced.ask("go")
            shaken = load.end()
        figures = {k: r[k] for k in ("p50_ms", "p99_ms", "max_ms", "late_p99_ms", "requests", "lost", "opened")}
        figures |= {"handshakes_per_s": shaken["rate"], "errors": shaken["errors"]}
        b.put(FLOOD, t, figures | {"server_busy_cores": m.cpu["server"] / m.wall, "steal": m.steal})

    b.each(measure, speaking_tls(b), FLOOD, goal=True)
