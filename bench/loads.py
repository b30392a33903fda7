"""The programs that put load on a target, seen from the benchmark: wrk, curl and those of this folder."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time

from basics import HERE, PY, http_get, new_key, stop
from measuring import Meter


def wrk(port, host, path, conns, seconds, headers=(), hosts_file=None, scheme="http"):
    """wrk's figures; rate counts good answers only. Over TLS it names 127.0.0.1 to the server, whatever the host."""
    env = dict(os.environ, WRK_PATH=path)
    if hosts_file:
        env["WRK_HOSTS"] = str(hosts_file)
    args = ["wrk", "-t1", f"-c{conns}", f"-d{seconds}s", "--timeout", "5s", "-s", str(HERE / "wrk.lua")]
    for h in (f"Host: {host}", *headers):
        args += ["-H", h]
    out = subprocess.run(
        [*args, f"{scheme}://127.0.0.1:{port}{path}"], capture_output=True, text=True, env=env, timeout=seconds + 20
    )
    for line in out.stdout.splitlines():
        if line.startswith("JSON"):
            r = json.loads(line[4:])
            r["good"] = r["requests"] - r["status"]
            r["rate"] = r["good"] / r["seconds"]
            r["errors"] = r["connect"] + r["read"] + r["write"] + r["status"] + r["timeout"]
            return r
    raise RuntimeError(out.stdout + out.stderr)


def measured_wrk(target, origin, path, conns, seconds, headers=(), hosts=None, client_pids=None):
    """The figures of one wrk run with what it cost; hosts is (port, host, file) in place of the tunnel "web"."""
    port, host, hosts_file = hosts or (*target.endpoint("web"), None)
    with Meter(target, origin, client_pids) as m:
        r = wrk(port, host, path, conns, seconds, headers, hosts_file)
    return wrk_figures(r, m)


def wrk_figures(r, m):
    """What is kept of one wrk run, with what it cost."""
    return {k: r[k] for k in ("rate", "p50_ms", "p99_ms", "errors")} | m.per(r["good"] / 1000, "s_per_1000")


def curl(args, limit):
    figures = '{"code":"%{http_code}","down":%{size_download},"up":%{size_upload},"t":%{time_total}}\n'
    command = ["curl", "-s", "-o", "/dev/null", "--max-time", str(limit), "-w", figures, *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


class Helper:
    """A load program of this folder: answers each line of its input with a line of JSON."""

    def __init__(self, program, *args):
        self.proc = subprocess.Popen(
            [PY, str(HERE / program), *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self):
        return self

    def send(self, line):
        self.proc.stdin.write(line + "\n")
        self.proc.stdin.flush()

    def receive(self, patience=180):
        if not select.select([self.proc.stdout], [], [], patience)[0]:
            raise RuntimeError(f"{self.proc.args[1]} said nothing for {patience} s")
        line = self.proc.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.proc.args[1]} ended early")
        return json.loads(line)

    def ask(self, line):
        self.send(line)
        return self.receive()

    def __exit__(self, *_):
        self.proc.stdin.close()
        try:
            self.proc.wait(5)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
        self.proc.stdout.close()


class Handshakes:
    """Full TLS handshakes, as many as several processes can do at once."""

    PROCESSES = 4

    def __init__(self, target, version):
        args = (*target.endpoint("web", "https"), version)
        self.helpers = [Helper("tlsload.py", *args) for _ in range(self.PROCESSES)]

    def __enter__(self):
        return self

    def begin(self, seconds):
        self.seconds = seconds
        for h in self.helpers:
            h.send(str(seconds))

    def end(self):
        """Their figures, once the time is over."""
        rs = [h.receive() for h in self.helpers]
        times, errors = sorted(t for r in rs for t in r["times_ms"]), [r["first_error"] for r in rs if r["errors"]]
        if not times:
            raise RuntimeError(f"no handshake: {errors[:1]}")
        n = len(times)
        out = {"handshakes": n, "rate": n / self.seconds, "errors": sum(r["errors"] for r in rs)}
        out |= {"p50_ms": times[n // 2], "p99_ms": times[int(n * 0.99)]}
        return out | ({"first_error": errors[0]} if errors else {})

    def __exit__(self, *exc):
        for h in self.helpers:  # all are told before one is waited for
            h.proc.stdin.close()
        for h in self.helpers:
            h.__exit__(*exc)


class MassClients:
    """asyncssh clients with a tunnel each, in one helper process or several."""

    def __init__(self, target, processes=1):
        self.target = target
        self.helpers = [Helper("sshclients.py", target.spec["ssh_port"], "/web", 5000) for _ in range(processes)]

    def __enter__(self):
        return self

    def pids(self):
        return [h.proc.pid for h in self.helpers]

    def _ask_all(self, command, count, *rest):
        """Spread a count over the processes, which work at the same time."""
        n = len(self.helpers)
        for i, h in enumerate(self.helpers):
            h.send(" ".join(map(str, (command, count // n + (i < count % n), *rest))))
        return [h.receive() for h in self.helpers]

    def prepare(self, count):
        """Make the keys of so many more clients, so that making them is no part of connecting."""
        self._ask_all("prepare", count)

    def connect(self, at_once):
        """Connect those that are prepared, so many at once in each process."""
        for h in self.helpers:
            h.send(f"connect {at_once}")
        rs = [h.receive() for h in self.helpers]
        times = sorted(t for r in rs for t in r["times_ms"])
        n, errors = len(times), [e for r in rs for e in r["errors"]]
        seconds = max(r["seconds"] for r in rs)
        out = {"connected": n, "errors": len(errors), "rate": n / seconds}
        if n:
            out |= {"p50_ms": times[n // 2], "p99_ms": times[int(n * 0.99)]}
        if errors:
            out["first_error"] = errors[0]
        return out

    def served(self, sample):
        """How many of a sample of the tunnels answer a request with 200."""
        ids = [i for ids in self._ask_all("clients", sample) for i in ids]
        port = self.target.spec["http_port"]
        return sum(http_get(port, self.target.host("web", i)) == (200, b"ok") for i in ids)

    def alive(self):
        for h in self.helpers:
            h.send("alive")
        return sum(h.receive() for h in self.helpers)

    def __exit__(self, *exc):
        for h in self.helpers:  # all are told before one is waited for
            h.proc.stdin.close()
        for h in self.helpers:
            h.__exit__(*exc)


class ManyTunnels:
    """OpenSSH clients with many tunnels each, all to the origin's small answer."""

    def __init__(self, target, work, clients, tunnels_each):
        self.target, self.work, self.clients, self.each = target, work, clients, tunnels_each
        self.procs, self.hosts = [], []

    def __enter__(self):
        try:
            for i in range(self.clients):
                self._connect(new_key(self.work / f"many{i}"))
            self.up = self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _connect(self, key):
        t = self.target
        client_id = t.client_id_of(key)
        fwd = [x for i in range(self.each) for x in ("-R", f"/t{i}:localhost:5000")]
        self.procs.append(subprocess.Popen(t.ssh(key=key, opts=["-N", *fwd]), stdin=subprocess.DEVNULL))
        self.hosts += [t.host(f"t{i}", client_id) for i in range(self.each)]

    def _wait(self):
        """How many answer, once all do or the patience of some 20 s is at its end."""
        port = self.target.spec["http_port"]
        up: set[str] = set()
        for _ in range(40):
            before = len(up)
            up |= {h for h in self.hosts if h not in up and http_get(port, h)[0] == 200}
            if len(up) == len(self.hosts):
                break
            if len(up) == before:
                time.sleep(0.5)
        return len(up)

    def pids(self):
        return [p.pid for p in self.procs]

    def load(self, origin, conns, seconds):
        """One wrk run over all tunnels in turn."""
        hosts_file = self.work / "hosts"
        hosts_file.write_text("\n".join(self.hosts) + "\n")
        hosts = (self.target.spec["http_port"], self.hosts[0], hosts_file)
        return measured_wrk(self.target, origin, "/", conns, seconds, hosts=hosts, client_pids=self.pids())

    def __exit__(self, *_):
        for p in self.procs:
            p.terminate()
        for p in self.procs:
            stop(p)
