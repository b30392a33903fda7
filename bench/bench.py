#!/usr/bin/env python3
"""Benchmark of an SSH tunnel server that publishes streamlocal forwards as HTTP hosts.

The server is started by a command, so CPU and memory of its process tree can be read
from /proc.  Everything runs on 127.0.0.1.  The protocol assumed:

  ssh -N -R /NAME:localhost:PORT user@host     publishes NAME
  ssh user@host hello                          prints JSON with "clientId"
  Host: NAME-CLIENTID.HOST_SUFFIX              reaches it

One server:    bench.py --name a --server-cmd '...' --ssh-port 2222 --http-port 3000 \
                        --host-suffix local.test --key client_ed25519 --out a.json
More of them, alternated repetition by repetition:   --also b.json  (same fields as JSON)
Floors in the same run:   --floor direct,sshd,nginx+sshd
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from proctree import RssWatch, cpu_seconds, memory_mib, rss_mib, steal_ticks

HERE = Path(__file__).resolve().parent
PY = sys.executable
TUNNELS = {"web": 5000, "wsk": 5001, "upl": 5002}


def log(*a):
    print(time.strftime("%H:%M:%S"), *a, file=sys.stderr, flush=True)


def wait_port(port, seconds=15):
    end = time.time() + seconds
    while time.time() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"nothing listens on {port}")


def stop(proc, seconds=5):
    if proc and proc.poll() is None:
        proc.send_signal(signal.SIGTERM)
        try:
            proc.wait(seconds)
        except subprocess.TimeoutExpired:
            proc.kill()
            proc.wait()


def http_get(port, host, path="/", timeout=5.0):
    """(status, body) of one request on a fresh connection; status 0 when refused."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as s:
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            data = b""
            while chunk := s.recv(65536):
                data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split()[1]), body
    except (OSError, IndexError, ValueError):
        return 0, b""


# ---------------------------------------------------------------- origin


class Origin:
    """nginx for files and a small Python process for websockets and uploads."""

    def __init__(self, work: Path):
        self.dir = work / "origin"
        www = self.dir / "www"
        www.mkdir(parents=True)
        (www / "1k").write_bytes(os.urandom(512).hex().encode())
        (www / "100k").write_bytes(os.urandom(51200).hex().encode())
        with open(www / "1g", "wb") as f:
            f.truncate(1 << 30)
        conf = self.dir / "nginx.conf"
        conf.write_text(f"""
worker_processes 1; daemon off; pid {self.dir}/nginx.pid; error_log {self.dir}/error.log warn;
events {{ worker_connections 8192; }}
http {{
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000; keepalive_timeout 120s;
  default_type application/octet-stream;
  client_body_temp_path {self.dir}/t1; proxy_temp_path {self.dir}/t2; fastcgi_temp_path {self.dir}/t3;
  uwsgi_temp_path {self.dir}/t4; scgi_temp_path {self.dir}/t5;
  server {{ listen 127.0.0.1:5000 backlog=4096; root {www};
    location = / {{ default_type text/plain; return 200 ok; }} }}
}}
""")
        self.nginx = subprocess.Popen(["nginx", "-p", str(self.dir), "-c", str(conf)])
        self.py = subprocess.Popen([PY, str(HERE / "pyorigin.py"), "5001", "5002"], stderr=subprocess.DEVNULL)
        for p in TUNNELS.values():
            wait_port(p)

    def pids(self):
        return [self.nginx.pid, self.py.pid]

    def stop(self):
        stop(self.nginx)
        stop(self.py)


# ---------------------------------------------------------------- targets

SSH_OPTS = [
    "-F",
    "none",
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "LogLevel=ERROR",
    "-o",
    "IdentitiesOnly=yes",
    "-o",
    "IdentityAgent=none",
    "-o",
    "ExitOnForwardFailure=yes",
]


class Tunnelled:
    """A tunnel server under test."""

    kind = "server"

    def __init__(self, spec, work):
        self.name, self.spec, self.work = spec["name"], spec, work
        self.proc = self.client = None
        self.ssh_opts = SSH_OPTS + shlex.split(spec.get("ssh_opts") or "")

    def start(self):
        env = dict(os.environ, **(self.spec.get("env") or {}))
        out = open(self.work / f"{self.name}.log", "ab")
        self.proc = subprocess.Popen(
            shlex.split(self.spec["server_cmd"]),
            cwd=self.spec.get("cwd"),
            env=env,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
        )
        wait_port(self.spec["ssh_port"])
        wait_port(self.spec["http_port"])
        time.sleep(0.5)
        self.hello = json.loads(subprocess.run(self.ssh("hello"), capture_output=True, timeout=20, check=True).stdout)
        self.client_id = self.hello["clientId"]

    def ssh(self, *tail, key=None, opts=(), port=None):
        return [
            "ssh",
            *self.ssh_opts,
            "-i",
            key or self.spec["key"],
            "-p",
            str(port or self.spec["ssh_port"]),
            *opts,
            "user@127.0.0.1",
            *tail,
        ]

    def endpoint(self, tunnel):
        return self.spec["http_port"], f"{tunnel}-{self.client_id}.{self.spec['host_suffix']}"

    def connect(self):
        fwd = [x for n, p in TUNNELS.items() for x in ("-R", f"/{n}:localhost:{p}")]
        self.client = subprocess.Popen(self.ssh(opts=["-N", *fwd]), stdin=subprocess.DEVNULL)
        self._await()

    def _await(self):
        port, host = self.endpoint("web")
        end = time.time() + 15
        while time.time() < end:
            if http_get(port, host) == (200, b"ok"):
                return
            time.sleep(0.05)
        raise RuntimeError(f"{self.name}: tunnel does not answer: {http_get(port, host)}")

    def disconnect(self):
        stop(self.client)
        self.client = None

    def server_pids(self):
        return [self.proc.pid]

    def client_pids(self):
        return [self.client.pid] if self.client else []

    def stop(self):
        self.disconnect()
        stop(self.proc)


class Direct:
    """The origin itself, no tunnel."""

    kind = "floor"
    name = "direct"

    def __init__(self, *_):
        pass

    def start(self): ...
    def connect(self): ...
    def disconnect(self): ...
    def stop(self): ...

    def endpoint(self, tunnel):
        return TUNNELS[tunnel], "localhost"

    def server_pids(self):
        return []

    client_pids = server_pids


class Sshd(Tunnelled):
    """OpenSSH sshd with plain TCP remote forwards."""

    kind = "floor"
    name = "sshd"
    SSH_PORT, BASE = 2200, 5100

    def __init__(self, spec, work):
        self.work, self.key = work, spec["key"]
        self.spec = {"key": self.key, "ssh_port": self.SSH_PORT}
        self.ssh_opts = SSH_OPTS + shlex.split(spec.get("ssh_opts") or "")
        self.client = None

    def start(self):
        d = self.work / self.name
        d.mkdir(exist_ok=True)
        Path("/run/sshd").mkdir(exist_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(d / "host")], check=True)
        pub = subprocess.run(["ssh-keygen", "-y", "-f", self.key], capture_output=True, check=True).stdout
        (d / "authorized_keys").write_bytes(pub)
        (d / "conf").write_text(f"""
Port {self.SSH_PORT}
ListenAddress 127.0.0.1
HostKey {d}/host
PidFile {d}/pid
AuthorizedKeysFile {d}/authorized_keys
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
AllowStreamLocalForwarding yes
StreamLocalBindUnlink yes
StreamLocalBindMask 0111
MaxStartups 1000
""")
        self.proc = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-e", "-f", str(d / "conf")], stderr=open(d / "log", "wb")
        )
        wait_port(self.SSH_PORT)

    def ssh(self, *tail, key=None, opts=()):
        return ["ssh", *self.ssh_opts, "-i", self.key, "-p", str(self.SSH_PORT), *opts, "root@127.0.0.1", *tail]

    def endpoint(self, tunnel):
        return TUNNELS[tunnel] - 5000 + self.BASE, "localhost"

    def connect(self):
        fwd = [x for p in TUNNELS.values() for x in ("-R", f"127.0.0.1:{p - 5000 + self.BASE}:localhost:{p}")]
        self.client = subprocess.Popen(self.ssh(opts=["-N", *fwd]), stdin=subprocess.DEVNULL)
        self._await()


class NginxSshd(Sshd):
    """nginx as reverse proxy by host name onto unix sockets that sshd forwards."""

    name = "nginx+sshd"
    SSH_PORT, HTTP = 2201, 3081

    def start(self):
        super().start()
        d = self.work / self.name
        (d / "nginx.conf").write_text(f"""
worker_processes 1; daemon off; pid {d}/nginx.pid; error_log {d}/error.log warn;
events {{ worker_connections 8192; }}
http {{
  access_log off; tcp_nodelay on; keepalive_requests 1000000; keepalive_timeout 120s; client_max_body_size 0;
  client_body_temp_path {d}/t1; proxy_temp_path {d}/t2; fastcgi_temp_path {d}/t3; uwsgi_temp_path {
            d
        }/t4; scgi_temp_path {d}/t5;
  map $http_upgrade $conn {{ default upgrade; '' ''; }}
  {
            "".join(
                f"upstream u_{n} {{ server unix:{d}/{n}.sock; keepalive 256; keepalive_requests 1000000; }}"
                for n in TUNNELS
            )
        }
  {
            "".join(
                f'''server {{ listen 127.0.0.1:{self.HTTP}; server_name {n}.floor.test; location / {{
    proxy_pass http://u_{n}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $conn;
    proxy_set_header Host $host; proxy_request_buffering off; proxy_max_temp_file_size 0; proxy_read_timeout 300s; }} }}'''
                for n in TUNNELS
            )
        }
}}
""")
        self.nginx = subprocess.Popen(["nginx", "-p", str(d), "-c", str(d / "nginx.conf")])
        wait_port(self.HTTP)

    def endpoint(self, tunnel):
        return self.HTTP, f"{tunnel}.floor.test"

    def connect(self):
        d = self.work / self.name
        fwd = [x for n, p in TUNNELS.items() for x in ("-R", f"{d}/{n}.sock:localhost:{p}")]
        self.client = subprocess.Popen(self.ssh(opts=["-N", *fwd]), stdin=subprocess.DEVNULL)
        self._await()

    def server_pids(self):
        return [self.proc.pid, self.nginx.pid]

    def stop(self):
        super().stop()
        stop(self.nginx)


FLOORS = {c.name: c for c in (Direct, Sshd, NginxSshd)}


# ---------------------------------------------------------------- measuring


class Meter:
    """CPU seconds of server, ssh client and origin over a block."""

    def __init__(self, target, origin, client_pids=None):
        self.roots = {
            "server": target.server_pids(),
            "sshclient": client_pids or target.client_pids(),
            "origin": origin.pids(),
        }

    def _now(self):
        return {k: cpu_seconds(v) if v else 0.0 for k, v in self.roots.items()}

    def __enter__(self):
        self._a, self._steal, self._t = self._now(), steal_ticks(), time.perf_counter()
        return self

    def __exit__(self, *_):
        b, s = self._now(), steal_ticks()
        self.wall = time.perf_counter() - self._t
        self.cpu = {k: b[k] - self._a[k] for k in b}
        self.steal = (s[0] - self._steal[0]) / max(1, s[1] - self._steal[1])

    def per(self, n, unit):
        """CPU of each part per n things, and how busy the server was (1.0 = one core)."""
        out = {f"{k}_cpu_{unit}": v / n for k, v in self.cpu.items()} if n else {}
        out["server_busy_cores"] = self.cpu["server"] / self.wall
        out["steal"] = self.steal
        return out


def wrk(port, host, path, conns, seconds, headers=(), hosts_file=None):
    env = dict(os.environ, WRK_PATH=path)
    if hosts_file:
        env["WRK_HOSTS"] = str(hosts_file)
    args = [
        "wrk",
        "-t1",
        f"-c{conns}",
        f"-d{seconds}s",
        "--timeout",
        "5s",
        "-s",
        str(HERE / "wrk.lua"),
        "-H",
        f"Host: {host}",
    ]
    for h in headers:
        args += ["-H", h]
    out = subprocess.run(
        [*args, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, env=env, timeout=seconds + 20
    )
    for line in out.stdout.splitlines():
        if line.startswith("JSON"):
            r = json.loads(line[4:])
            r["rate"] = r["requests"] / r["seconds"]
            return r
    raise RuntimeError(out.stdout + out.stderr)


def curl(args, limit):
    return subprocess.Popen(
        [
            "curl",
            "-s",
            "-o",
            "/dev/null",
            "--max-time",
            str(limit),
            "-w",
            '{"code":"%{http_code}","down":%{size_download},"up":%{size_upload},"t":%{time_total}}\n',
            *args,
        ],
        stdout=subprocess.PIPE,
        text=True,
    )


class Bench:
    def __init__(self, opt, targets, origin, work):
        self.o, self.targets, self.origin, self.work = opt, targets, origin, work
        self.results: dict = {}

    def put(self, scenario, target, figures):
        slot = self.results.setdefault(scenario, {}).setdefault(target.name, {})
        for k, v in figures.items():
            if isinstance(v, (int, float)):
                slot.setdefault(k, []).append(v)
            else:
                slot[k] = v
        log(
            f"{scenario:22} {target.name:16}",
            " ".join(f"{k}={v:.4g}" for k, v in figures.items() if isinstance(v, (int, float))),
        )

    def each(self, measure, targets=None, label=""):
        """Run measure(target) reps times, alternating; a server that died is noted and started again."""
        for rep in range(self.o.reps):
            ts = targets or self.targets
            for t in ts if rep % 2 == 0 else list(reversed(ts)):
                self.revive(t, label)
                try:
                    measure(t)
                except Exception as e:
                    log(f"{label} {t.name}: {e!r}"[:300])
                    self.revive(t, label)
                    if self.lost_client(t):
                        t.disconnect()
                        t.connect()

    @staticmethod
    def lost_client(t):
        return t.kind == "server" and t.client is not None and t.client.poll() is not None

    def revive(self, t, label):
        if t.kind == "server" and t.proc.poll() is not None:
            log(f"!!! {t.name} died (exit {t.proc.returncode}) around '{label}'")
            self.put("crashes", t, {"exit": t.proc.returncode, label or "?": 1})
            had_client = t.client is not None
            t.stop()
            t.start()
            if had_client:
                t.connect()

    @property
    def servers(self):
        return [t for t in self.targets if t.kind == "server"]

    def save(self):
        def fold(v):
            if not isinstance(v, list):
                return v
            return {"median": statistics.median(v), "min": min(v), "max": max(v), "values": v}

        data = {
            "meta": self.meta(),
            "results": {
                s: {t: {k: fold(v) for k, v in f.items()} for t, f in ts.items()} for s, ts in self.results.items()
            },
        }
        if self.o.out:
            Path(self.o.out).write_text(json.dumps(data, indent=1))
        return data

    def meta(self):
        ver = lambda *c: (lambda p: (p.stdout + p.stderr).strip().splitlines()[0])(
            subprocess.run(c, capture_output=True, text=True)
        )
        return {
            "time": time.strftime("%FT%T"),
            "kernel": platform.release(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "ssh": ver("ssh", "-V"),
            "nginx": ver("nginx", "-v"),
            "wrk": ver("wrk", "-v"),
            "reps": self.o.reps,
            "duration": self.o.duration,
            "targets": [getattr(t, "spec", {"name": t.name}) for t in self.targets],
        }

    # -- 1, 2: small requests
    def _wrk(self, scenario, t, path, conns, headers=()):
        port, host = t.endpoint("web")
        with Meter(t, self.origin) as m:
            r = wrk(port, host, path, conns, self.o.duration, headers)
        errors = r["connect"] + r["read"] + r["write"] + r["status"] + r["timeout"]
        self.put(
            scenario,
            t,
            {k: r[k] for k in ("rate", "p50_ms", "p99_ms")}
            | {"errors": errors}
            | m.per(r["requests"] / 1000, "s_per_1000"),
        )

    def small(self):
        for path, label, conns in (("/", "2B", (1, 16, 64, 256)), ("/1k", "1k", (16, 64)), ("/100k", "100k", (16,))):
            for c in conns:
                name = f"small {label} c{c}"
                if self.o.small_points and name[6:] not in self.o.small_points.split(","):
                    continue
                self.each(lambda t: self._wrk(name, t, path, c), label=name)

    def close(self):
        self.each(lambda t: self._wrk("close 2B c16", t, "/", 16, ["Connection: close"]), label="close")

    # -- 3: streams
    def _curls(self, scenario, t, tunnel, n, limit, extra, path, key, unit_bytes=2**30):
        port, host = t.endpoint(tunnel)
        with RssWatch(t.server_pids()) as memory, Meter(t, self.origin) as m:
            t0 = time.perf_counter()
            ps = [curl([*extra, "-H", f"Host: {host}", f"http://127.0.0.1:{port}{path}"], limit) for _ in range(n)]
            rs = [json.loads(p.communicate()[0]) for p in ps]
            took = time.perf_counter() - t0
        size = sum(r[key] for r in rs)
        self.put(
            scenario,
            t,
            {
                "MB_per_s": size / 1e6 / took,
                "not_200": sum(r["code"] != "200" for r in rs),
                "peak_growth_MiB": memory.peak - memory.start,
            }
            | m.per(size / 1e9, "s_per_GB"),
        )

    def stream(self):
        files = {}
        for name, size in (("256MiB", 256 << 20), ("1GiB", 1 << 30)):
            files[name] = self.work / name
            with open(files[name], "wb") as f:
                f.truncate(size)
        kinds = self.o.stream_kinds.split(",")
        for n in (n for n in (1, 4) if f"down{n}" in kinds):
            self.each(
                lambda t: self._curls(f"download 1GiB x{n}", t, "web", n, self.o.stream_limit, [], "/1g", "down"),
                label=f"download x{n}",
            )
        for n, name in ((n, name) for n, name in ((1, "1GiB"), (1, "256MiB"), (4, "256MiB")) if f"up{n}" in kinds):
            self.each(
                lambda t: self._curls(
                    f"upload {name} x{n}",
                    t,
                    "upl",
                    n,
                    self.o.stream_limit,
                    ["-T", str(files[name]), "-H", "Expect:"],
                    "/up",
                    "up",
                ),
                label=f"upload {name} x{n}",
            )

    # -- 4: websockets
    def ws(self):
        for c in (1, 100):

            def measure(t):
                port, host = t.endpoint("wsk")
                with Meter(t, self.origin) as m:
                    p = subprocess.run(
                        [PY, str(HERE / "wsload.py"), str(port), host, str(c), str(self.o.duration)],
                        capture_output=True,
                        text=True,
                        timeout=60,
                    )
                if p.returncode:
                    raise RuntimeError(p.stderr[-300:])
                r = json.loads(p.stdout)
                self.put(
                    f"ws c{c}",
                    t,
                    {k: r[k] for k in ("rate", "p50_ms", "p99_ms", "lost")} | m.per(r["messages"] / 1000, "s_per_1000"),
                )

            self.each(measure, label=f"ws c{c}")

    # -- 5: set-up
    def setup(self):
        for t in self.servers:
            t.disconnect()
        time.sleep(0.5)

        def first(t):
            for _ in range(5):
                port, host = t.endpoint("web")
                t0 = time.perf_counter()
                with Meter(t, self.origin):
                    p = subprocess.Popen(t.ssh(opts=["-N", "-R", "/web:localhost:5000"]), stdin=subprocess.DEVNULL)
                    while http_get(port, host) != (200, b"ok") and time.perf_counter() - t0 < 10:
                        time.sleep(0.003)
                    ms = (time.perf_counter() - t0) * 1e3
                self.put("setup first request", t, {"ms": ms})
                stop(p)
                time.sleep(0.15)

        def execs(t):
            with BareExec(self.work) as bare:
                for _ in range(5):
                    t0 = time.perf_counter()
                    p = subprocess.Popen(t.ssh("hello", port=bare.port), stdout=subprocess.PIPE)
                    if p.stdout.readline() != b"ok\r\n":
                        raise RuntimeError("no answer to the exec")
                    ms = (time.perf_counter() - t0) * 1e3
                    p.communicate(timeout=20)
                    self.put("setup first request", bare, {"ms": ms})
                    time.sleep(0.15)

        def hellos(t):
            n, par = 40, 4
            with Meter(t, self.origin) as m:
                t0 = time.perf_counter()
                left = threading.Semaphore(par)

                def one():
                    with left:
                        subprocess.run(t.ssh("hello"), capture_output=True, timeout=20)

                th = [threading.Thread(target=one) for _ in range(n)]
                [x.start() for x in th]
                [x.join() for x in th]
                took = time.perf_counter() - t0
            self.put("setup openssh hello x4", t, {"conn_per_s": n / took} | m.per(n, "s_per_conn"))

        def mass(t):
            with MassClients(t, 200, 200) as mc:
                with Meter(t, self.origin, [mc.proc.pid]) as m:
                    r = mc.go()
                self.put(
                    "setup asyncssh 200",
                    t,
                    {k: r[k] for k in ("rate", "connected", "errors", "p50_ms", "p99_ms")}
                    | m.per(max(1, r["connected"]), "s_per_conn"),
                )
            time.sleep(1)

        for f in (first, execs, hellos, mass):
            self.each(f, self.servers, f"setup {f.__name__}")
        for t in self.servers:
            t.connect()

    # -- 6: memory (each server fresh)
    def memory(self):
        def measure(t):
            t.stop()
            t.start()
            time.sleep(1.5)
            base = memory_mib(t.server_pids())
            n = self.o.clients
            with MassClients(t, n, 20) as mc:
                r = mc.go()
                time.sleep(4)
                idle = memory_mib(t.server_pids())
                with Meter(t, self.origin, [mc.proc.pid]) as m:
                    time.sleep(8)
                alive = mc.finish()
            k = max(1, r["connected"])
            time.sleep(2)
            after = memory_mib(t.server_pids())
            self.put(
                f"memory {n} clients",
                t,
                {
                    "base_rss_MiB": base["rss"],
                    "base_pss_MiB": base["pss"],
                    "rss_MiB": idle["rss"],
                    "pss_MiB": idle["pss"],
                    "rss_KiB_per_client": (idle["rss"] - base["rss"]) * 1024 / k,
                    "pss_KiB_per_client": (idle["pss"] - base["pss"]) * 1024 / k,
                    "connected": r["connected"],
                    "alive": alive,
                    "idle_cpu_cores": m.cpu["server"] / m.wall,
                    "rss_after_MiB": after["rss"],
                    "processes": base["processes"],
                },
            )
            t.connect()

        self.each(measure, self.servers, "memory")

    # -- 7: many tunnels
    def many(self):
        per, clients = 10, self.o.tunnels // 10
        keys = []
        for i in range(clients):
            k = self.work / f"many{i}"
            if not k.exists():
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(k)], check=True)
            keys.append(str(k))
        for t in self.servers:
            self.revive(t, "many")
            procs, hosts = [], []
            try:
                for k in keys:
                    cid = json.loads(
                        subprocess.run(t.ssh("hello", key=k), capture_output=True, timeout=20, check=True).stdout
                    )["clientId"]
                    fwd = [x for i in range(per) for x in ("-R", f"/t{i}:localhost:5000")]
                    procs.append(subprocess.Popen(t.ssh(key=k, opts=["-N", *fwd]), stdin=subprocess.DEVNULL))
                    hosts += [f"t{i}-{cid}.{t.spec['host_suffix']}" for i in range(per)]
                port = t.spec["http_port"]
                end = time.time() + 20
                up = set()
                while time.time() < end and len(up) < len(hosts):
                    up |= {h for h in hosts if h not in up and http_get(port, h)[0] == 200}
                hf = self.work / "hosts"
                hf.write_text("\n".join(hosts) + "\n")
                for _ in range(self.o.reps):
                    with Meter(t, self.origin, [p.pid for p in procs]) as m:
                        r = wrk(port, hosts[0], "/", 64, self.o.duration, hosts_file=hf)
                    errors = r["connect"] + r["read"] + r["write"] + r["status"] + r["timeout"]
                    self.put(
                        f"many {len(hosts)} tunnels c64",
                        t,
                        {
                            "rate": r["rate"],
                            "p50_ms": r["p50_ms"],
                            "p99_ms": r["p99_ms"],
                            "errors": errors,
                            "up": len(up),
                            "rss_MiB": rss_mib(t.server_pids()),
                        }
                        | m.per(r["requests"] / 1000, "s_per_1000"),
                    )
            finally:
                for p in procs:
                    p.terminate()
                for p in procs:
                    stop(p)
            time.sleep(1)

    # -- 8: slow reader, slow origin
    def slow(self):
        def reader(t):
            port, host = t.endpoint("web")
            with RssWatch(t.server_pids()) as w, RssWatch(t.client_pids()) as wc:
                s = socket.socket()
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
                s.connect(("127.0.0.1", port))
                s.sendall(f"GET /1g HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                got, t0 = 0, time.time()
                while time.time() - t0 < self.o.slow_seconds:
                    got += len(s.recv(50_000))
                    time.sleep(max(0, got / 1e6 - (time.time() - t0)))
                grown = rss_mib(t.server_pids()) - w.start
                s.close()
                time.sleep(1)
            self.put(
                "slow reader 1MB/s",
                t,
                {
                    "rss_growth_MiB": grown,
                    "peak_growth_MiB": w.peak - w.start,
                    "after_close_MiB": w.end - w.start,
                    "got_MB": got / 1e6,
                    "sshclient_growth_MiB": wc.peak - wc.start,
                },
            )

        def slow_origin(t):
            port, host = t.endpoint("upl")
            big = self.work / "slow-1g"
            with open(big, "wb") as f:
                f.truncate(1 << 30)
            with RssWatch(t.server_pids()) as w:
                p = curl(
                    [
                        "-T",
                        str(big),
                        "-H",
                        "Expect:",
                        "-H",
                        f"Host: {host}",
                        f"http://127.0.0.1:{port}/slow",
                    ],
                    self.o.slow_seconds,
                )
                r = json.loads(p.communicate()[0])
                grown = rss_mib(t.server_pids()) - w.start
            self.put(
                "slow origin 1MB/s",
                t,
                {"rss_growth_MiB": grown, "peak_growth_MiB": w.peak - w.start, "accepted_MB": r["up"] / 1e6},
            )

        self.each(reader, self.servers, "slow reader")
        self.each(slow_origin, self.servers, "slow origin")

    # -- 9: small requests while a download saturates the same server
    def mixed(self):
        def measure(t):
            port, host = t.endpoint("web")
            ps = [curl(["-H", f"Host: {host}", f"http://127.0.0.1:{port}/1g"], self.o.duration + 2) for _ in range(2)]
            time.sleep(0.7)
            r = wrk(port, host, "/", 4, self.o.duration)
            down = sum(json.loads(p.communicate()[0])["down"] for p in ps)
            self.put(
                "mixed c4 + 2 downloads",
                t,
                {k: r[k] for k in ("rate", "p50_ms", "p99_ms")}
                | {"download_MB_per_s": down / 1e6 / (self.o.duration + 2)},
            )

        self.each(measure, label="mixed")


class MassClients:
    def __init__(self, t, count, conc):
        self.proc = subprocess.Popen(
            [PY, str(HERE / "sshclients.py"), str(t.spec["ssh_port"]), str(count), str(conc), "/web", "5000"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        self.proc.stdout.readline()
        return self

    def go(self):
        self.proc.stdin.write("\n")
        self.proc.stdin.flush()
        return json.loads(self.proc.stdout.readline())

    def finish(self):
        self.proc.stdin.write("\n")
        self.proc.stdin.flush()
        return json.loads(self.proc.stdout.readline())["alive"]

    def __exit__(self, *_):
        self.proc.stdin.close()
        try:
            self.proc.wait(5)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()


class BareExec:
    """A bare asyncssh server that answers an exec: what connecting and logging in cost by themselves."""

    name = "bare asyncssh exec"
    port = 2202

    def __init__(self, work):
        key = work / "bare_host_key"
        if not key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        self.proc = subprocess.Popen([PY, str(HERE / "bareexec.py"), str(self.port), str(key)])

    def __enter__(self):
        wait_port(self.port)
        return self

    def __exit__(self, *_):
        stop(self.proc)


SCENARIOS = ["small", "close", "stream", "ws", "setup", "memory", "many", "slow", "mixed"]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--name")
    ap.add_argument("--server-cmd")
    ap.add_argument("--cwd")
    ap.add_argument("--env", action="append", default=[], metavar="K=V")
    ap.add_argument("--ssh-port", type=int, default=2222)
    ap.add_argument("--http-port", type=int, default=3000)
    ap.add_argument("--host-suffix", default="local.test")
    ap.add_argument("--key", required=True)
    ap.add_argument("--ssh-opts", default="", help="extra OpenSSH client options, e.g. '-c aes128-gcm@openssh.com'")
    ap.add_argument("--also", action="append", default=[], help="JSON file of one more server")
    ap.add_argument("--floor", default="", help="comma list of " + ",".join(FLOORS))
    ap.add_argument("--scenarios", default=",".join(SCENARIOS))
    ap.add_argument("--reps", type=int, default=3)
    ap.add_argument("--duration", type=int, default=3)
    ap.add_argument("--stream-limit", type=float, default=6)
    ap.add_argument("--slow-seconds", type=float, default=15)
    ap.add_argument("--clients", type=int, default=500)
    ap.add_argument("--tunnels", type=int, default=500)
    ap.add_argument("--out")
    ap.add_argument("--stream-kinds", default="down1,down4,up1,up4")
    ap.add_argument("--small-points", default="", help="only these of the small scenario, e.g. '2B c16,100k c16'")
    o = ap.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))

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
                "host_suffix": o.host_suffix,
                "key": o.key,
                "ssh_opts": o.ssh_opts,
            }
        )
    for f in o.also:
        specs.append(
            {"key": o.key, "host_suffix": o.host_suffix, "ssh_opts": o.ssh_opts, **json.loads(Path(f).read_text())}
        )

    with tempfile.TemporaryDirectory(prefix="tunnelbench.") as tmp:
        work = Path(tmp)
        work.chmod(0o755)
        origin = Origin(work)
        targets = []
        try:
            for t in [Tunnelled(s, work) for s in specs] + [
                FLOORS[f]({"key": o.key, "ssh_opts": o.ssh_opts}, work) for f in o.floor.split(",") if f
            ]:
                targets.append(t)
                t.start()
                t.connect()
            b = Bench(o, targets, origin, work)
            for t in targets:  # let JITs warm up
                port, host = t.endpoint("web")
                wrk(port, host, "/", 16, 3)
            for s in o.scenarios.split(","):
                try:
                    for t in b.servers:
                        b.revive(t, "between")
                        if t.client is None or t.client.poll() is not None:
                            t.disconnect()
                            t.connect()
                    getattr(b, s)()
                except Exception as e:
                    import traceback

                    traceback.print_exc()
                    b.results.setdefault("failed", {})[s] = {"error": repr(e)}
                b.save()
            data = b.save()
        finally:
            for t in targets:
                try:
                    t.stop()
                except Exception as e:
                    log("stop", t.name, e)
            origin.stop()
        print(json.dumps(data))


if __name__ == "__main__":
    main()
