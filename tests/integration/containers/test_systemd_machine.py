"""A machine that systemd runs, as a container: the units installed there, as they are."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import asyncssh
import pytest
from certs import make_pair
from containers import LABEL, ROOT, build, docker, published, wait_until
from rig import LIMIT, Service, answering, need, plain

UNITS = ROOT / "deploy" / "systemd"
UNIT = "tunnel-server.service"
WAITING = 20  # visitors
UNCHECKED = ssl._create_unverified_context()
# What systemd needs of Docker's --privileged, which some machines cannot give whole.
CAPABILITIES = (
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_ADMIN",
    "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_ADMIN", "SYS_CHROOT", "SYS_NICE", "SYS_PTRACE",
)  # fmt: skip
DOCKERFILE = """FROM {image}
USER root
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends systemd >/dev/null
COPY etc /etc/tunnel-server
RUN chmod 600 /etc/tunnel-server/env
COPY units /etc/systemd/system
# As on a machine: mounts are shared, which credentials need, and control groups (of version 2) writable.
ENTRYPOINT ["sh", "-c", "mount --make-rshared / && mount -o remount,rw /sys/fs/cgroup && exec /lib/systemd/systemd"]
CMD []
"""
SETTINGS = """
base_url = "http://tunnels.test"
dev_tls = true
"""
METRICS = "import urllib.request as web; print(web.urlopen('http://127.0.0.1:8888/metrics').read().decode())"
STUCK = """
import time
from tunnel_server import Route, hookimpl

async def stuck(request):
    print("now it is stuck", flush=True)
    time.sleep(3600)

@hookimpl
def register_routes():
    return [Route("GET", "/stuck", stuck)]
"""


class Machine:
    """A container in which systemd is process 1."""

    def __init__(self, image: str) -> None:
        options = [word for name in CAPABILITIES for word in ("--cap-add", name)]
        for what in ("seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined"):
            options += ["--security-opt", what]
        for port in (80, 443, 2222):
            options += ["-p", f"127.0.0.1::{port}"]
        options += ["--cgroupns", "private", "--tmpfs", "/run", "--tmpfs", "/tmp", "-e", "container=docker"]
        self.id = docker("run", "-d", *options, "--label", LABEL, image)

    def __enter__(self) -> Self:
        wait_until(lambda: self.tried("systemctl", "is-active", "multi-user.target") == "active", "multi-user.target")
        self.http, self.https, self.ssh = (published(self.id, port) for port in (80, 443, 2222))
        return self

    def __exit__(self, *error: object) -> None:
        docker("rm", "-f", "-v", self.id)

    def run(self, *words: str) -> str:
        """Return what a command in it prints; it has to succeed."""
        return docker("exec", self.id, *words)

    def tried(self, *words: str) -> str:
        """Return what a command in it prints, whether it succeeds or not."""
        return subprocess.run([need("docker"), "exec", self.id, *words], capture_output=True, text=True).stdout.strip()

    def told(self, name: str) -> str:
        """Return a property of the server's unit."""
        return self.run("systemctl", "show", "--property", name, "--value", UNIT)

    @property
    def journal(self) -> str:
        return self.run("journalctl", "--no-pager", "--output", "cat", "--unit", UNIT)

    def until(self, state: str) -> None:
        """Wait until the server's unit is in this state."""
        wait_until(lambda: self.told("SubState") == state, state)

    def restart_with(self, *lines: str) -> None:
        """Run the server anew, its unit having these lines, too."""
        text = "\n".join(["[Service]", *lines])
        folder = f"/run/systemd/system/{UNIT}.d"
        self.run("sh", "-ec", 'mkdir -p "$1"; echo "$2" >"$1/test.conf"; systemctl daemon-reload', "sh", folder, text)
        self.tried("systemctl", "restart", UNIT)
        assert self.told("SubState") == "running", self.journal[-2000:]

    def come(self, tls: ssl.SSLContext | None) -> socket.socket:
        """Return a visitor's connection, whether somebody takes it or not."""
        return socket.create_connection(("127.0.0.1", self.https if tls else self.http))

    async def visited(
        self,
        path: str = "/healthz",
        host: str = "tunnels.test",
        *,
        come: socket.socket | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> bytes:
        """Return the body of the answer to a visitor, one that has ``come`` or a new one; there has to be one."""
        reader, writer = await asyncio.open_connection(
            sock=come or self.come(tls), ssl=tls, server_hostname=host if tls else None
        )
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            async with asyncio.timeout(3 * LIMIT):
                answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            return answer.partition(b"\r\n\r\n")[2]
        finally:
            writer.close()

    @asynccontextmanager
    async def client(self, come: socket.socket | None = None) -> AsyncIterator[asyncssh.SSHClientConnection]:
        """Log in, by a connection that has ``come`` or a new one."""
        async with asyncssh.connect(
            username="env", known_hosts=None, config=None, agent_path=None, login_timeout=3 * LIMIT,
            sock=come or socket.create_connection(("127.0.0.1", self.ssh)),
            client_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        ) as client:  # fmt: skip
            yield client

    @asynccontextmanager
    async def tunnel(self, service: Service) -> AsyncIterator[str]:
        """Publish a service; gives the Host of its tunnel."""
        async with self.client() as client:
            await client.forward_remote_path_to_port("/web", "127.0.0.1", service.port)
            yield json.loads(str((await client.run("tunnel-url web")).stdout))["web"].split("/")[2]

    async def host_key(self, come: socket.socket | None = None) -> bytes:
        """Return the public key that the server shows its clients."""
        async with self.client(come) as client:
            key = client.get_server_host_key()
            assert key is not None
            return key.public_data


@pytest.fixture(scope="module")
def machine(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which all sockets are enabled, and the server was never started."""
    folder: Path = tmp_path_factory.mktemp("machine")
    (folder / "Dockerfile").write_text(DOCKERFILE.format(image=image))
    (folder / "etc" / "plugins").mkdir(parents=True)
    (folder / "etc" / "settings.toml").write_text(SETTINGS)
    (folder / "etc" / "env").write_text("TUNNEL_SERVER_PLUGINS_DIR=/etc/tunnel-server/plugins\n")
    (folder / "etc" / "plugins" / "stuck.py").write_text(STUCK)
    shutil.copytree(UNITS, folder / "units", ignore=shutil.ignore_patterns("*.md"))
    sockets = sorted(unit.name for unit in (folder / "units").glob("*.socket"))
    with Machine(build(folder)) as made:
        made.run("systemctl", "enable", "--now", *sockets)
        yield made


async def test_the_first_visitor_starts_it_and_all_works_in_its_cage(machine: Machine) -> None:
    assert machine.told("ActiveState") == "inactive"

    assert await machine.visited() == b"OK"

    async with Service(answering(plain(b"app"))) as service, machine.tunnel(service) as host:
        assert await machine.visited("/", host) == b"app"
        assert await machine.visited("/", host, tls=UNCHECKED) == b"app"
    status = machine.run("cat", f"/proc/{machine.told('MainPID')}/status")
    told = dict(line.split(":\t", 1) for line in status.splitlines())
    assert {name: told[name] for name in ("NoNewPrivs", "Seccomp", "CapBnd")} == {
        "NoNewPrivs": "1", "Seccomp": "2", "CapBnd": "0" * 16,
    }  # fmt: skip
    assert told["Uid"].split()[0] not in ("0", "10001")
    assert machine.told("StatusText") == "http 80, ssh 2222, tls 443, metrics 8888"
    assert machine.run("systemd-analyze", "verify", UNIT) == ""
    assert "process_start_time_seconds" in machine.run("python", "-c", METRICS)


async def test_who_comes_while_it_restarts_waits_and_is_served_by_the_same_server(machine: Machine) -> None:
    await machine.visited()
    before, key = machine.told("InvocationID"), await machine.host_key()
    machine.restart_with("ExecStopPost=/bin/sh -c 'while test -e /run/closed; do sleep 0.05; done'")

    machine.run("touch", "/run/closed")
    machine.run("systemctl", "restart", "--no-block", UNIT)
    machine.until("stop-post")
    assert machine.told("MainPID") == "0"
    waiting = [(machine.come(tls), tls) for tls in (None, UNCHECKED) for _ in range(WAITING)]
    client = socket.create_connection(("127.0.0.1", machine.ssh))
    machine.run("rm", "/run/closed")

    answers = await asyncio.gather(*(machine.visited(come=come, tls=tls) for come, tls in waiting))
    assert answers == [b"OK"] * 2 * WAITING
    assert await machine.host_key(client) == key
    assert machine.told("InvocationID") != before


async def test_a_stop_may_take_as_long_as_the_requests_under_way(machine: Machine) -> None:
    asked = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await asyncio.sleep(3)  # what the app takes: more than systemd would wait
        writer.write(plain(b"late"))
        await writer.drain()

    machine.restart_with("TimeoutStopSec=1")
    async with Service(slow) as service, machine.tunnel(service) as host, asyncio.timeout(3 * LIMIT):
        visit = asyncio.create_task(machine.visited("/", host))
        await asked.wait()
        machine.run("systemctl", "restart", "--no-block", UNIT)

        assert await visit == b"late"
    assert "Killing process" not in machine.journal


async def test_a_loop_that_is_stuck_is_found_ended_and_replaced(machine: Machine) -> None:
    machine.restart_with("WatchdogSec=5", "RestartSec=100ms")
    before = machine.told("InvocationID")

    _, writer = await asyncio.open_connection("127.0.0.1", machine.http)
    writer.write(b"GET /stuck HTTP/1.1\r\nHost: tunnels.test\r\n\r\n")
    await writer.drain()
    wait_until(lambda: "now it is stuck" in machine.journal, "stuck")

    assert await machine.visited() == b"OK"
    writer.close()
    assert machine.told("InvocationID") != before
    assert "Watchdog timeout" in machine.journal
    assert "plugins/stuck.py" in machine.journal  # where it was


async def test_a_certificate_that_root_alone_may_read_is_handed_over(machine: Machine, tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "tunnels.test")
    folder = "/etc/letsencrypt/live/tunnels.example.com"
    machine.run("mkdir", "-p", "-m", "700", folder)
    for file, name in ((pair.cert, "fullchain.pem"), (pair.key, "privkey.pem")):
        docker("cp", str(file), f"{machine.id}:{folder}/{name}")
    [drop_in] = re.findall(r"```ini\n\[Service\]\n(.*?)```", (UNITS / "README.md").read_text(), re.DOTALL)

    machine.restart_with(drop_in, "Environment=TUNNEL_SERVER_DEV_TLS=false")

    assert await machine.visited(tls=pair.client_context()) == b"OK"


def test_the_service_brings_the_sockets_it_requires_and_opens_what_is_not_passed(machine: Machine) -> None:
    machine.run("systemctl", "stop", "tunnel-server*")
    machine.until("dead")

    machine.run("systemctl", "start", UNIT)

    assert machine.told("StatusText") == "http 80, ssh 2222, tls 8443, metrics 8888"
