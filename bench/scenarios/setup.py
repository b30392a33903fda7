"""What it takes to connect: the first request, one command, many clients at once."""

from __future__ import annotations

import subprocess
import threading
import time

from basics import http_get, stop
from loads import MassClients
from measuring import Meter
from targets import BareExec


def first(b, t):
    """From the start of ssh to the first answer through its tunnel."""
    for _ in range(5):
        port, host = t.endpoint("web")
        t0 = time.perf_counter()
        p = subprocess.Popen(t.ssh(opts=["-N", "-R", "/web:localhost:5000"]), stdin=subprocess.DEVNULL)
        try:
            while http_get(port, host) != (200, b"ok"):
                if time.perf_counter() - t0 > 10:
                    raise RuntimeError("no answer through a new tunnel")
                time.sleep(0.003)
            ms = (time.perf_counter() - t0) * 1e3
        finally:
            stop(p)
        b.put("setup first request", t, {"ms": ms})
        time.sleep(0.15)


def execs(b, t):
    with BareExec(b.work) as bare:
        for _ in range(5):
            t0 = time.perf_counter()
            p = subprocess.Popen(t.ssh("hello", port=bare.port), stdout=subprocess.PIPE)
            if p.stdout.readline() != b"ok\r\n":
                raise RuntimeError("no answer to the exec")
            ms = (time.perf_counter() - t0) * 1e3
            p.communicate(timeout=20)
            b.put("setup first request", bare, {"ms": ms})
            time.sleep(0.15)


def hellos(b, t):
    count, left = 40, threading.Semaphore(4)
    codes = []

    def one():
        with left:
            codes.append(subprocess.run(t.ssh("hello"), capture_output=True, timeout=20).returncode)

    with Meter(t, b.origin) as m:
        t0 = time.perf_counter()
        threads = [threading.Thread(target=one) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - t0
    figures = {"conn_per_s": count / took, "errors": count - codes.count(0)}
    b.put("setup openssh hello x4", t, figures | m.per(count, "s_per_conn"))


def mass(b, t):
    with MassClients(t) as clients:
        clients.prepare(200)
        with Meter(t, b.origin, clients.pids()) as m:
            r = clients.connect(200)
        b.put("setup asyncssh 200", t, r | m.per(max(1, r["connected"]), "s_per_conn"))
    time.sleep(1)


def setup(b):
    for t in b.servers:
        t.disconnect()
    time.sleep(0.5)
    for measure in (first, execs, hellos, mass):
        b.each(lambda t: measure(b, t), b.servers, f"setup {measure.__name__}")
    for t in b.servers:
        t.connect()
