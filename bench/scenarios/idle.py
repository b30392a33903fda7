"""Idle clients: their memory, their CPU, and whether their tunnels work. Each on a freshly started server."""

from __future__ import annotations

import time

from loads import MassClients
from measuring import Meter
from proctree import memory_mib

# Thousands of clients come faster than a server's limit on logins under way need allow.
MANY_CLIENTS = {"TUNNEL_SERVER_MAX_UNAUTHENTICATED": "6000"}
SAMPLE = 50


def per_client(now, base, count):
    """KiB of each client, resident and proportional."""
    return {f"{k}_KiB_per_client": (now[k] - base[k]) * 1024 / max(1, count) for k in ("rss", "pss")}


def idle_cpu(b, t, clients, seconds):
    """Part of a core that the server uses for clients that do nothing."""
    with Meter(t, b.origin, clients.pids()) as m:
        time.sleep(seconds)
    return m.cpu["server"] / m.wall


def memory(b):
    count = b.o.clients

    def measure(t):
        with b.fresh(t):
            time.sleep(1.5)
            base = memory_mib(t.server_pids())
            with MassClients(t) as clients:
                clients.prepare(count)
                r = clients.connect(20)
                time.sleep(4)
                idle = memory_mib(t.server_pids())
                cores = idle_cpu(b, t, clients, 8)
                alive = clients.alive()
            time.sleep(2)
            figures = {
                "base_rss_MiB": base["rss"],
                "base_pss_MiB": base["pss"],
                "rss_MiB": idle["rss"],
                "pss_MiB": idle["pss"],
                **per_client(idle, base, r["connected"]),
                "connected": r["connected"],
                "alive": alive,
                "lost": count - alive,
                "idle_cpu_cores": cores,
                "rss_after_MiB": memory_mib(t.server_pids())["rss"],
                "processes": base["processes"],
            }
            b.put(f"memory {count} clients", t, figures)

    b.each(measure, b.servers, f"memory {count} clients", goal=True)


def idle5000(b):
    count = b.o.many_clients
    name = f"idle {count} clients"

    def measure(t):
        with b.fresh(t, MANY_CLIENTS):
            time.sleep(1.5)
            base = memory_mib(t.server_pids())
            with MassClients(t, processes=2) as clients:
                clients.prepare(count)
                r = clients.connect(20)
                time.sleep(4)
                idle = memory_mib(t.server_pids())
                cores = idle_cpu(b, t, clients, 10)  # signs of life are asked for every 10 s
                figures = {
                    "connected": r["connected"],
                    "refused": r["errors"],
                    "connect_per_s": r["rate"],
                    "alive": clients.alive(),
                    "idle_cpu_cores": cores,
                    **per_client(idle, base, r["connected"]),
                    "rss_MiB": idle["rss"],
                    "served": clients.served(SAMPLE),
                    "asked": SAMPLE,
                }
                if "first_error" in r:
                    figures["first_error"] = r["first_error"]
            b.put(name, t, figures)

    b.each(measure, b.servers, name, reps=b.o.side_reps)
