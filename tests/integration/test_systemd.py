"""Under systemd: sockets that it passes, what it is told, and what its own programs say of the units."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import ssl
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncssh
import pytest
from rig import LIMIT, Service, answering, need, plain

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
QUIET = {"TUNNEL_SERVER_LISTEN_HOST": "127.0.0.1", "TUNNEL_SERVER_METRICS_HOST": "127.0.0.1"}
QUIET |= {"PORT": "0", "SSH_PORT": "0", "METRICS_PORT": "0", "BASE_URL": "http://tunnels.test"}


@asynccontextmanager
async def activated(folder: Path, *names: str, **environ: str) -> AsyncIterator[tuple[Process, dict[str, int]]]:
    """Listen as systemd does, with a socket for each name; whoever comes first starts the server."""
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    listen = [word for port in ports.values() for word in ("-l", f"127.0.0.1:{port}")]
    setenv = [word for name, value in (QUIET | environ).items() for word in ("-E", f"{name}={value}")]
    server = (sys.executable, "-m", "tunnel_server", "run")
    words = (need("systemd-socket-activate"), *listen, f"--fdname={':'.join(names)}", *setenv, *server)
    process = await asyncio.create_subprocess_exec(*words, cwd=folder, stdout=PIPE, stderr=PIPE)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(LIMIT):
            for _ in names:
                assert b"Listening on" in await process.stderr.readline()
        yield process, ports
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in held]
    for sock in held:
        sock.close()
    return ports


@contextmanager
def notify_socket(folder: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(folder / "notify"))
        sock.setblocking(False)
        yield sock


async def told(sock: socket.socket) -> list[str]:
    """Return the lines of the server's next message."""
    async with asyncio.timeout(LIMIT):
        return (await asyncio.get_running_loop().sock_recv(sock, 4096)).decode().split("\n")


async def visited(port: int, path: str, host: str = "tunnels.test", tls: ssl.SSLContext | None = None) -> bytes:
    """Return the answer to a visitor, head and all."""
    name = host if tls else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        async with asyncio.timeout(LIMIT):
            return await reader.read()
    finally:
        writer.close()


async def test_the_first_visitor_starts_it_and_systemd_hears_of_its_life(tmp_path: Path) -> None:
    with notify_socket(tmp_path) as systemd:
        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "500000"}
        async with activated(tmp_path, "http", "ssh", "metrics", **environ) as (process, ports):
            first = asyncio.create_task(visited(ports["http"], "/healthz"))
            status = f"STATUS=http {ports['http']}, ssh {ports['ssh']}, metrics {ports['metrics']}"
            assert await told(systemd) == ["READY=1", status]
            assert (await visited(ports["http"], "/readyz")).startswith(b"HTTP/1.1 200 ")
            assert (await first).endswith(b"\r\n\r\nOK")
            assert b"tunnel_server_" in await visited(ports["metrics"], "/metrics")
            assert await through_a_tunnel(ports) == b"app"
            assert [await told(systemd) for _ in range(2)] == [["WATCHDOG=1"]] * 2

            process.send_signal(signal.SIGTERM)
            while (last := await told(systemd)) == ["WATCHDOG=1"]:
                pass
            assert last[:2] == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=45000000"]
            async with asyncio.timeout(LIMIT):
                assert await process.wait() == 0
            with pytest.raises(BlockingIOError):
                systemd.recv(100)


async def through_a_tunnel(ports: dict[str, int]) -> bytes:
    async with (
        Service(answering(plain(b"app"))) as service,
        asyncssh.connect(
            "127.0.0.1", ports["ssh"], username="env", known_hosts=None, config=None, agent_path=None,
            client_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        ) as client,
    ):  # fmt: skip
        await client.forward_remote_path_to_port("/web", "127.0.0.1", service.port)
        url = json.loads(str((await client.run("tunnel-url web")).stdout))["web"]
        return (await visited(ports["http"], "/", url.split("/")[2])).rpartition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("https", "file descriptor 3, passed as 'https', has no name that is known: http, ssh, tls, metrics; "),
        ("tls", "a socket is passed as 'tls', and there is no certificate: "),
    ],
    ids=["unknown", "no-certificate"],
)
async def test_a_socket_that_nobody_would_serve_is_one_clear_line(tmp_path: Path, name: str, problem: str) -> None:
    async with activated(tmp_path, name) as (process, ports):
        _, writer = await asyncio.open_connection("127.0.0.1", ports[name])
        async with asyncio.timeout(LIMIT):
            _, error = await process.communicate()
        writer.close()

    assert process.returncode == 1
    assert f"tunnel-server: {problem}" in error.decode()
    assert "Traceback" not in error.decode()


async def test_what_is_told_of_ports_is_told_of_the_sockets(tmp_path: Path) -> None:
    environ = {"TUNNEL_SERVER_DEV_TLS": "true", "TUNNEL_SERVER_FORCE_HTTPS": "true"}
    async with activated(tmp_path, "http", "tls", "ssh", **environ, SSH_PORT="4022", TLS_PORT="4443") as (_, ports):
        redirect = await visited(ports["http"], "/a")
        trusted = ssl.create_default_context(cafile=tmp_path / "tls" / "dev" / "ca.pem")
        page = await visited(ports["tls"], "/", tls=trusted)

    assert f"\r\nLocation: https://tunnels.test:{ports['tls']}/a\r\n" in redirect.decode()
    assert f"ssh -p {ports['ssh']} -R /my-tunnel:localhost:5000 tunnels.test hello" in page.decode()


def analyzed(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([need("systemd-analyze"), *words], capture_output=True, text=True, timeout=60)


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """The units, with a command that there is on this machine."""
    copies = []
    for unit in (*UNITS.glob("*.service"), *UNITS.glob("*.socket")):
        copy = tmp_path / unit.name
        copy.write_text(unit.read_text().replace("/opt/tunnel-server/bin/tunnel-server", sys.executable))
        copies.append(str(copy))
    return copies


def test_systemd_has_nothing_to_say_about_the_units(units: list[str]) -> None:
    done = analyzed("verify", "--recursive-errors=no", *units)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(units) == 5


def test_the_score_is_the_one_noted() -> None:
    noted = re.search(r"`(\d)\.(\d)` of 10 \(systemd (\d+);", (UNITS / "README.md").read_text())
    assert noted is not None
    score, version = int(noted[1] + noted[2]), noted[3]
    if analyzed("--version").stdout.split()[1] != version:
        pytest.skip(f"each version of systemd counts in its own way; the score is noted for {version}")

    def within(threshold: int) -> bool:
        unit = str(UNITS / "tunnel-server.service")
        return analyzed("security", "--offline=true", f"--threshold={threshold}", unit).returncode == 0

    assert within(score)
    assert not within(score - 1)
