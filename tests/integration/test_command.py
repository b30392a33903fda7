"""The command as its users start and stop it: a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest
from rig import LIMIT, Service, answering, plain

ENVIRONMENT = {
    key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "PYTHONPATH")
}
QUIET = {"TUNNEL_SERVER_LISTEN_HOST": "127.0.0.1", "PORT": "0", "SSH_PORT": "0", "METRICS_PORT": "0"}


@asynccontextmanager
async def command(folder: Path, *words: str, **environ: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tunnel_server", *words, cwd=folder, env=ENVIRONMENT | environ, stdout=PIPE, stderr=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ended(folder: Path, *words: str, **environ: str) -> tuple[int | None, str, str]:
    async with command(folder, *words, **environ) as process, asyncio.timeout(LIMIT):
        out, error = await process.communicate()
    return process.returncode, out.decode(), error.decode()


STUBBORN = """
import asyncio
from tunnel_server import hookimpl

@hookimpl
def startup(server):
    async def work():
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass
    server.spawn(work())
"""


async def event(process: Process, name: str) -> dict[str, object]:
    assert process.stderr is not None
    async with asyncio.timeout(LIMIT):
        while line := await process.stderr.readline():
            entry: dict[str, object] = json.loads(line)
            if entry["event"] == name:
                return entry
    raise AssertionError(f"no {name}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_in_good_order(tmp_path: Path, number: signal.Signals) -> None:
    async with command(tmp_path, "run", **QUIET) as process:
        await event(process, "server.started")
        process.send_signal(number)
        await event(process, "server.stopped")

        assert await process.wait() == 0


async def test_a_plugin_that_heeds_no_cancel_does_not_keep_the_process(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "stubborn.py").write_text(STUBBORN)
    environ = QUIET | {"TUNNEL_SERVER_PLUGINS_DIR": str(tmp_path / "plugins")}
    async with command(tmp_path, "run", **environ) as process:
        loaded = await event(process, "server.started") and await event(process, "plugins.loaded")
        process.send_signal(signal.SIGTERM)
        left = await event(process, "server.left-behind")

        async with asyncio.timeout(20):
            assert await process.wait() == 0
    assert "stubborn" in str(loaded["names"])
    assert left["tasks"] == 1


async def test_a_health_check_tells_whether_it_is_ready(tmp_path: Path) -> None:
    async with command(tmp_path, "run", **QUIET) as process:
        started = await event(process, "server.started")
        file = tmp_path / "settings.toml"
        file.write_text(f"port = {started['http_port']}\nsome_plugins_setting = 1\n")

        assert (await ended(tmp_path, "healthcheck", "--config", str(file)))[0] == 0
    status, _, error = await ended(tmp_path, "healthcheck", "--config", str(file))

    assert status == 1
    assert error.startswith("tunnel-server: not ready: ")


@pytest.mark.parametrize("answer", ["a redirect", "nonsense", "a head without end", "silence"])
async def test_a_health_check_ends_whatever_answers(tmp_path: Path, answer: str) -> None:
    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        match answer:
            case "a redirect":
                writer.write(b"HTTP/1.1 302 Found\r\nLocation: /healthz\r\nContent-Length: 0\r\n\r\n")
            case "nonsense":
                writer.write(b"SSH-2.0-x\r\n")
            case "a head without end":
                writer.write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000)
            case "silence":
                await asyncio.sleep(LIMIT)

    async with Service(answers) as service:
        status, _, error = await ended(tmp_path, "healthcheck", PORT=str(service.port))

    assert status == 1
    assert error.startswith("tunnel-server: not ready: ")
    assert error.count("\n") == 1


async def test_a_doctor_waits_for_no_list_of_cas_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    status, _, error = await ended(tmp_path, "doctor", SSL_CERT_FILE=str(tmp_path / "pipe"))

    assert status == 2
    assert "is no file; give one of CA certificates" in error


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    async with command(tmp_path, "run", **QUIET, TUNNEL_SERVER_GRACE_PERIOD="1h") as process:
        started = await event(process, "server.started")
        _reader, writer = await asyncio.open_connection("127.0.0.1", started["http_port"])
        writer.write(b"GET / HT")  # a request in flight, which the stop waits for
        await writer.drain()
        process.send_signal(signal.SIGTERM)
        await event(process, "server.stopping")
        process.send_signal(signal.SIGTERM)

        async with asyncio.timeout(LIMIT):
            assert await process.wait() == 128 + signal.SIGTERM
        writer.close()


@pytest.mark.parametrize("variable", ["PORT", "SSH_PORT", "METRICS_PORT"])
async def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = str(holder.getsockname()[1])
        environ = QUIET | {variable: port, "TUNNEL_SERVER_METRICS_HOST": "127.0.0.1"}

        status, out, error = await ended(tmp_path, "run", **environ)

    assert (status, out) == (1, "")
    lines = [line for line in error.splitlines() if not line.startswith("{")]
    assert len(lines) == 1
    assert f"port {port}" in lines[0]


async def test_a_wrong_setting_is_a_line_and_no_traceback(tmp_path: Path) -> None:
    status, _, error = await ended(tmp_path, "run", PORT="x", TUNNEL_SERVER_TYPO="1")

    assert status == 2
    assert [line.partition(":")[0] for line in error.splitlines()] == ["tunnel-server"] * 2


async def test_config_shows_what_is_in_force_and_hides_secrets(tmp_path: Path) -> None:
    status, out, _ = await ended(tmp_path, "config", "--port", "99", "--json", SSH_HOST_KEY="s3cret")

    shown = json.loads(out)
    assert status == 0
    assert shown["port"] == {"value": 99, "from": "flag --port"}
    assert shown["ssh_host_key"] == {"value": "********", "from": "environment SSH_HOST_KEY"}
    assert "s3cret" not in out


async def test_a_host_key_that_is_none_is_one_clear_line(tmp_path: Path) -> None:
    status, _, error = await ended(tmp_path, "run", **QUIET, SSH_HOST_KEY="bm8=")

    assert status == 1
    assert "SSH_HOST_KEY is not the base64 of a private key" in error
    assert "Traceback" not in error


async def test_the_version_is_told(tmp_path: Path) -> None:
    status, out, _ = await ended(tmp_path, "--version")

    assert (status, out.split()[0]) == (0, "tunnel-server")


async def test_on_a_terminal_it_says_where_it_is_and_what_to_try_next(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environ = ENVIRONMENT | QUIET | {"BASE_URL": "http://tunnels.test:3000", "TERM": "dumb"}
    words = (sys.executable, "-m", "tunnel_server", "run")
    process = await asyncio.create_subprocess_exec(*words, cwd=tmp_path, env=environ, stdout=theirs, stderr=theirs)
    os.close(theirs)
    loop, shown, told = asyncio.get_running_loop(), bytearray(), asyncio.Event()

    def read() -> None:
        shown.extend(os.read(ours, 4096))
        if b" hello\r\n" in shown:
            told.set()

    loop.add_reader(ours, read)
    try:
        async with asyncio.timeout(LIMIT):
            await told.wait()
    finally:
        loop.remove_reader(ours)
        process.kill()
        await process.wait()
        os.close(ours)

    assert b"Serving http://tunnels.test:3000/" in shown
    assert re.search(rb"    ssh -p \d+ -R /my-tunnel:localhost:5000 tunnels\.test hello\r\n", shown)
    assert b'{"' not in shown  # people get the console form


async def test_the_access_log_has_a_line_for_each_request_and_no_secret(tmp_path: Path) -> None:
    async with command(tmp_path, "run", "--access-log", **QUIET, BASE_URL="http://tunnels.test") as process:
        started = await event(process, "server.started")
        reader, writer = await asyncio.open_connection("127.0.0.1", started["http_port"])
        writer.write(b"GET /a?b HTTP/1.1\r\nHost: none-abc.tunnels.test\r\nCookie: s3cret\r\n\r\n")
        async with asyncio.timeout(LIMIT):
            answer = await reader.readuntil(b"\r\n\r\n")
        entry = await event(process, "request")
        writer.close()

    assert b" 502 " in answer
    expected = {"method": "GET", "host": "none-abc.tunnels.test", "path": "/a?b", "status": 502}
    assert expected.items() <= entry.items()
    assert "s3cret" not in json.dumps(entry)


async def test_the_command_serves_a_tunnel_from_end_to_end(tmp_path: Path) -> None:
    async with (
        Service(answering(plain(b"app"))) as service,
        command(tmp_path, "run", **QUIET, BASE_URL="http://tunnels.test") as process,
    ):
        started = await event(process, "server.started")
        async with asyncssh.connect(
            "127.0.0.1", started["ssh_port"], username="env", known_hosts=None, config=None, agent_path=None,
            client_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        ) as client:  # fmt: skip
            await client.forward_remote_path_to_port("/web", "127.0.0.1", service.port)
            opened = await event(process, "tunnel.opened")
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", started["http_port"])
                writer.write(b"GET / HTTP/1.1\r\nHost: %b.tunnels.test\r\n\r\n" % str(opened["label"]).encode())
                async with asyncio.timeout(LIMIT):
                    assert await reader.readuntil(b"app")
                writer.close()
            process.send_signal(signal.SIGTERM)
            await event(process, "client.disconnected")
            assert await process.wait() == 0


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


async def test_an_idle_server_is_small_and_has_not_loaded_what_nobody_uses(tmp_path: Path) -> None:
    environ = QUIET | {"PYTHONPROFILEIMPORTTIME": "1"}  # tells of each import on standard error
    async with command(tmp_path, "run", **environ) as process:
        assert process.stderr is not None
        loaded = set()
        async with asyncio.timeout(LIMIT):
            while b"server.started" not in (line := await process.stderr.readline()):
                loaded.add(line.decode().rpartition("|")[2].strip().partition(".")[0])
        resident = resident_mib(process.pid)

    assert "asyncssh" in loaded
    assert not loaded & {"acme", "josepy", "requests", "h2", "hpack", "joserfc"}
    assert resident < 90, f"{resident:.1f} MiB"
