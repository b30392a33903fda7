#!/usr/bin/env python3
"""Benchmark of an SSH tunnel server that publishes streamlocal forwards as HTTP hosts.

The server is started by a command, so CPU and memory of its process tree can be read
from /proc.  Everything runs on 127.0.0.1.  The protocol assumed:

  ssh -N -R /NAME:localhost:PORT user@host     publishes NAME
  ssh user@host hello                          prints JSON with "clientId"
  Host: NAME-CLIENTID.HOST_SUFFIX              reaches it

One server:    bench.py --name a --server-cmd '...' --ssh-port 2222 --http-port 3000 \\
                        --host-suffix local.test --key client_ed25519 --out a.json
More of them, alternated repetition by repetition:   --also b.json  (same fields as JSON)
Floors in the same run:   --floor direct,sshd,nginx+sshd,sshd+gcm,nginx+sshd+gcm
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import sys
import tempfile
from pathlib import Path

from basics import log
from loads import wrk
from origin import Origin
from runner import Bench
from scenarios import SCENARIOS
from targets import FLOORS, Tunnelled


def options():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--name")
    ap.add_argument("--server-cmd")
    ap.add_argument("--cwd")
    ap.add_argument("--env", action="append", default=[], metavar="K=V")
    ap.add_argument("--ssh-port", type=int, default=2222)
    ap.add_argument("--http-port", type=int, default=3000)
    ap.add_argument("--https-port", type=int, help="where HTTPS is served, too")
    ap.add_argument("--host-suffix", default="local.test")
    ap.add_argument("--key", required=True)
    ap.add_argument("--ssh-opts", default="", help="extra OpenSSH client options, e.g. '-c aes128-gcm@openssh.com'")
    ap.add_argument("--also", action="append", default=[], help="JSON file of one more server")
    ap.add_argument("--floor", default="", help="comma list of " + ",".join(FLOORS))
    ap.add_argument("--scenarios", default=",".join(SCENARIOS))
    ap.add_argument("--reps", type=int, default=3)
    ap.add_argument(
        "--side-reps",
        type=int,
        help="repetitions of what no goal speaks of, which the AES-GCM floors then leave out (default: --reps, all)",
    )
    ap.add_argument("--growth-reps", type=int, default=3)
    ap.add_argument("--growth-duration", type=int, default=2)
    ap.add_argument("--duration", type=int, default=3)
    ap.add_argument("--stream-limit", type=float, default=6)
    ap.add_argument("--slow-seconds", type=float, default=15)
    ap.add_argument("--clients", type=int, default=500, help="of the scenario memory")
    ap.add_argument("--many-clients", type=int, default=5000, help="of the scenario idle5000")
    ap.add_argument("--tunnels", type=int, default=500, help="of the scenario many")
    ap.add_argument("--growth-connections", default="1,4,16,64,256,1000")
    ap.add_argument("--growth-tunnels", default="1,10,100,500,1000,2000")
    ap.add_argument("--growth-idle", default="0,500,1000,2000,5000")
    ap.add_argument("--out")
    ap.add_argument("--stream-kinds", default="down1,down4,up1,up4")
    ap.add_argument("--small-points", default="", help="only these of the small scenario, e.g. '2B c16,100k c16'")
    o = ap.parse_args()
    o.scenarios = [s for s in o.scenarios.split(",") if s]
    o.floor = [f for f in o.floor.split(",") if f]
    for names, known in ((o.scenarios, SCENARIOS), (o.floor, FLOORS)):
        if unknown := [n for n in names if n not in known]:
            ap.error(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return o


def server_specs(o):
    specs = []
    if o.server_cmd:
        specs.append(
            {
                "name": o.name or "server",
                "server_cmd": o.server_cmd,
                "cwd": o.cwd,
                "env": dict(e.split("=", 1) for e in o.env),
                "ssh_port": o.ssh_port,
                "http_port": o.http_port,
                "https_port": o.https_port,
                "host_suffix": o.host_suffix,
                "key": o.key,
                "ssh_opts": o.ssh_opts,
            }
        )
    defaults = {"key": o.key, "host_suffix": o.host_suffix, "ssh_opts": o.ssh_opts}
    return specs + [{**defaults, **json.loads(Path(f).read_text())} for f in o.also]


def allow_many_files():
    """Thousands of connections are open at once; what is started from here inherits the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main():
    o = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    allow_many_files()
    with tempfile.TemporaryDirectory(prefix="tunnelbench.") as tmp:
        work = Path(tmp)
        work.chmod(0o755)
        targets = [Tunnelled(s, work) for s in server_specs(o)]
        targets += [FLOORS[f]({"key": o.key, "ssh_opts": o.ssh_opts}, work) for f in o.floor]
        origin, started = Origin(work), []
        try:
            for t in targets:
                started.append(t)
                t.start()
                t.connect()
            b = Bench(o, targets, origin, work)
            for t in targets:  # let JITs warm up
                wrk(*t.endpoint("web"), "/", 16, 3)
            for name in o.scenarios:
                b.run(name, SCENARIOS[name])
            print(json.dumps(b.save()))
        finally:
            for t in started:
                try:
                    t.stop()
                except Exception as e:
                    log("stop", t.name, e)
            origin.stop()


if __name__ == "__main__":
    main()
