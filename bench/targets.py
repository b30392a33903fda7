"""What is measured: tunnel servers, and the floors they are compared with."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from pathlib import Path

from basics import HERE, PY, TUNNELS, http_get, new_certificate, new_key, stop, wait_port

SSH_OPTIONS = {
    "StrictHostKeyChecking": "no",
    "UserKnownHostsFile": "/dev/null",
    "LogLevel": "ERROR",
    "IdentitiesOnly": "yes",
    "IdentityAgent": "none",
    "ExitOnForwardFailure": "yes",
}
SSH_OPTS = ["-F", "none", *(word for k, v in SSH_OPTIONS.items() for word in ("-o", f"{k}={v}"))]


class Tunnelled:
    """A tunnel server under test."""

    kind = "server"

    def __init__(self, spec, work):
        self.name, self.spec, self.work = spec["name"], spec, work
        self.proc = self.client = self.extra_env = None
        self.ssh_opts = SSH_OPTS + shlex.split(spec.get("ssh_opts") or "")

    def start(self, extra_env=None):
        """Start the server; extra_env are settings that one scenario needs."""
        self.extra_env = extra_env
        env = dict(os.environ, **(self.spec.get("env") or {}), **(extra_env or {}))
        with open(self.work / f"{self.name}.log", "ab") as out:
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
        if self.spec.get("https_port"):
            wait_port(self.spec["https_port"])
        time.sleep(0.5)
        self.client_id = self.client_id_of(self.spec["key"])

    def client_id_of(self, key):
        """What the server calls the owner of a key."""
        hello = subprocess.run(self.ssh("hello", key=key), capture_output=True, timeout=20, check=True)
        return json.loads(hello.stdout)["clientId"]

    def ssh(self, *tail, key=None, opts=(), port=None):
        login = ["-i", key or self.spec["key"], "-p", str(port or self.spec["ssh_port"])]
        return ["ssh", *self.ssh_opts, *login, *opts, "user@127.0.0.1", *tail]

    def host(self, tunnel, client_id):
        return f"{tunnel}-{client_id}.{self.spec['host_suffix']}"

    def endpoint(self, tunnel, scheme="http"):
        return self.spec[f"{scheme}_port"], self.host(tunnel, self.client_id)

    @property
    def has_tls(self):
        """Whether it serves HTTPS, too."""
        return bool(self.spec.get("https_port"))

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
    client = None
    has_tls = False

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
    has_tls = False
    CIPHER = ()  # options of the client; none: what OpenSSH chooses by itself

    def __init__(self, spec, work):
        self.work, self.key = work, spec["key"]
        self.spec = {"key": self.key, "ssh_port": self.SSH_PORT}
        self.ssh_opts = [*SSH_OPTS, *shlex.split(spec.get("ssh_opts") or ""), *self.CIPHER]
        self.proc = self.client = None

    def start(self):
        d = self.work / self.name
        d.mkdir(exist_ok=True)
        Path("/run/sshd").mkdir(exist_ok=True)
        new_key(d / "host")
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
        with open(d / "log", "wb") as out:
            self.proc = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(d / "conf")], stderr=out)
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
    SSH_PORT, HTTP, HTTPS = 2201, 3081, 3481
    has_tls = True

    def start(self):
        super().start()
        d = self.work / self.name
        upstreams = "\n".join(
            f"  upstream u_{n} {{ server unix:{d}/{n}.sock; keepalive 256; keepalive_requests 1000000; }}"
            for n in TUNNELS
        )
        servers = "\n".join(
            f"""  server {{ listen 127.0.0.1:{self.HTTP}; listen 127.0.0.1:{self.HTTPS} ssl;
    server_name {n}.floor.test; location / {{
    proxy_pass http://u_{n}; proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $conn; proxy_set_header Host $host;
    proxy_request_buffering off; proxy_max_temp_file_size 0; proxy_read_timeout 300s; }} }}"""
            for n in TUNNELS
        )
        certificate, key = new_certificate(d, "*.floor.test")
        (d / "nginx.conf").write_text(f"""
worker_processes 1; daemon off; pid {d}/nginx.pid; error_log {d}/error.log warn;
events {{ worker_connections 8192; }}
http {{
  access_log off; tcp_nodelay on; keepalive_requests 1000000; keepalive_timeout 120s; client_max_body_size 0;
  client_body_temp_path {d}/t1; proxy_temp_path {d}/t2; fastcgi_temp_path {d}/t3;
  uwsgi_temp_path {d}/t4; scgi_temp_path {d}/t5;
  map $http_upgrade $conn {{ default upgrade; '' ''; }}
  ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;
  ssl_session_tickets off; ssl_session_cache off;
{upstreams}
{servers}
}}
""")
        self.nginx = subprocess.Popen(["nginx", "-p", str(d), "-c", str(d / "nginx.conf")])
        wait_port(self.HTTP)
        wait_port(self.HTTPS)

    def endpoint(self, tunnel, scheme="http"):
        return self.HTTPS if scheme == "https" else self.HTTP, f"{tunnel}.floor.test"

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


# OpenSSH prefers ChaCha20, which costs more here than AES-GCM; these floors show how much of a ratio is the cipher.
AES_GCM = ("-c", "aes128-gcm@openssh.com")


class SshdGcm(Sshd):
    """The same with AES-GCM."""

    name = "sshd+gcm"
    SSH_PORT, BASE = 2203, 5200
    CIPHER = AES_GCM


class NginxSshdGcm(NginxSshd):
    """The same with AES-GCM."""

    name = "nginx+sshd+gcm"
    SSH_PORT, HTTP, HTTPS = 2204, 3082, 3482
    CIPHER = AES_GCM


FLOORS = {c.name: c for c in (Direct, Sshd, NginxSshd, SshdGcm, NginxSshdGcm)}


class BareExec:
    """A bare asyncssh server that answers an exec: what connecting and logging in cost by themselves."""

    name = "bare asyncssh exec"
    port = 2202

    def __init__(self, work):
        key = new_key(work / "bare_host_key")
        self.proc = subprocess.Popen([PY, str(HERE / "bareexec.py"), str(self.port), key])

    def __enter__(self):
        wait_port(self.port)
        return self

    def __exit__(self, *_):
        stop(self.proc)
