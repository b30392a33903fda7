"""How the cost of a small request grows with connections, tunnels and idle clients."""

from __future__ import annotations

import time

from loads import ManyTunnels, MassClients, measured_wrk, wrk
from proctree import memory_mib, rss_mib

from scenarios.idle import MANY_CLIENTS, idle_cpu, per_client

LOAD = 64  # connections of the load where something else grows
TUNNELS_EACH = 100  # of one client at most, which is the server's limit
# 1,000 connections on one tunnel wait for a few dozen channels; all come from one address, which may have half the queue.
LONG_QUEUE = {"TUNNEL_SERVER_QUEUE_LENGTH": "4000"}


def numbers(text):
    return [int(n) for n in text.split(",") if n]


def connections(b):
    """One tunnel, more and more visitors' connections."""
    for t in b.servers:
        t.stop()
        t.start(LONG_QUEUE)
        t.connect()
    try:
        for t in b.compared:
            wrk(*t.endpoint("web"), "/", 16, 1)
        for n in numbers(b.o.growth_connections):
            name = f"growth connections {n}"

            def measure(t):
                b.put(name, t, measured_wrk(t, b.origin, "/", n, b.o.growth_duration))

            b.each(measure, b.compared, name, reps=b.o.growth_reps)
    finally:
        for t in b.servers:
            t.stop()
            t.start()
            t.connect()


def tunnels(b):
    """One load over more and more tunnels."""
    for t in b.servers:
        for n in numbers(b.o.growth_tunnels):
            name = f"growth tunnels {n}"
            clients = -(-n // TUNNELS_EACH)
            b.revive(t, name)
            try:
                with ManyTunnels(t, b.work, clients, n // clients) as many:
                    for _ in range(b.o.growth_reps):
                        figures = many.load(b.origin, LOAD, b.o.growth_duration)
                        figures |= {"up": many.up, "clients": clients, "rss_MiB": rss_mib(t.server_pids())}
                        b.put(name, t, figures)
            except Exception as e:
                b.failed(name, t.name, e)
            time.sleep(1)


def idle_clients(b):
    """A load on one tunnel of a server that has more and more idle clients."""
    for t in b.servers:
        try:
            with b.fresh(t, MANY_CLIENTS):
                t.connect()
                wrk(*t.endpoint("web"), "/", LOAD, 1)  # what the load itself takes up is no client's memory
                time.sleep(1.5)
                base = memory_mib(t.server_pids())
                with MassClients(t, processes=2) as clients:
                    for n in numbers(b.o.growth_idle):
                        idle_step(b, t, clients, base, n)
        except Exception as e:
            b.failed("growth idle", t.name, e)


def idle_step(b, t, clients, base, n):
    """Add clients until there are n, and measure."""
    now = clients.alive()
    if n > now:
        clients.prepare(n - now)
        clients.connect(20)
    time.sleep(3)
    memory = memory_mib(t.server_pids())
    alive = clients.alive()
    idle = {"connected": alive, "idle_cpu_cores": idle_cpu(b, t, clients, 10), "rss_MiB": memory["rss"]}
    if alive:
        idle |= per_client(memory, base, alive)
    for _ in range(b.o.growth_reps):
        b.put(f"growth idle {n}", t, measured_wrk(t, b.origin, "/", LOAD, b.o.growth_duration))
    b.put(f"growth idle {n}", t, idle | {"lost": n - clients.alive()})


def growth(b):
    for part in (connections, tunnels, idle_clients):
        part(b)
