"""The package as it is installed: built from what git tracks, and run far from the checkout."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import zipfile
from asyncio.subprocess import PIPE, Process
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from rig import LIMIT, Visit, need

ROOT = Path(__file__).parents[2]
BUILD_LIMIT = 100  # seconds
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def run(*command: str | Path, cwd: Path) -> str:
    """Return what a command prints; it has to succeed."""
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=BUILD_LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def isolation() -> list[str]:
    """Return the options of a build: with the setuptools at hand if it is new enough, else with one fetched for it."""
    try:
        return ["--no-isolation"] if int(version("setuptools").partition(".")[0]) >= 77 else []
    except PackageNotFoundError:
        return []


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that git tracks, as they are now: a build writes into its source."""
    folder = tmp_path_factory.mktemp("source")
    for name in run(need("git"), "ls-files", "-z", cwd=ROOT).split("\0")[:-1]:
        if os.path.lexists(ROOT / name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name, follow_symlinks=False)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    # without --sdist or --wheel the wheel is made from the sdist
    run(sys.executable, "-m", "build", *isolation(), "--outdir", folder, source, cwd=folder)
    assert len(list(folder.glob("*.tar.gz"))) == 1
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new virtual environment with the wheel, and the dependencies of the current one."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    programs = folder / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python")]
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=folder)
    # Only the folder: the .pth files in it, of which one is the checkout's, are not read.
    [library] = folder.glob("lib/python*/site-packages")
    (library / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return programs


def test_the_wheel_holds_every_module_and_nothing_else(source: Path, wheel: Path) -> None:
    written = {path.relative_to(source / "src") for path in (source / "src").rglob("*") if path.is_file()}
    modules = {path.as_posix() for path in written if path.suffix == ".py" or path.name == "py.typed"}
    with zipfile.ZipFile(wheel) as archive:
        packed = archive.namelist()

    assert {"__init__.py", "py.typed", "adapters/ssh/connection.py"} <= modules
    package = "tunnel_server/"
    assert sorted(name.removeprefix(package) for name in packed if name.startswith(package)) == sorted(modules)
    others = {name.partition("/")[0] for name in packed} - {"tunnel_server"}
    assert others == {"-".join(wheel.name.split("-")[:2]) + ".dist-info"}


def test_what_is_imported_is_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = "import tunnel_server.app.serve, sys; print(tunnel_server.__file__, *sys.path, sep='\\n')"

    imported, *path = run(installed / "python", "-c", code, cwd=tmp_path).splitlines()

    assert Path(imported).is_relative_to(installed.parent)
    assert str(ROOT) not in path


def test_the_command_tells_its_version(installed: Path, wheel: Path, tmp_path: Path) -> None:
    assert run(installed / "tunnel-server", "--version", cwd=tmp_path) == f"tunnel-server {wheel.name.split('-')[1]}\n"


async def started(process: Process) -> dict[str, int]:
    """Return what the log says of the ports, once the server listens."""
    assert process.stderr is not None
    said = ""
    while line := (await process.stderr.readline()).decode():
        said += line
        if "server.started" in line:
            ports: dict[str, int] = json.loads(line)
            return ports
    raise AssertionError(said)


async def test_the_command_serves_until_it_is_told_to_stop(installed: Path, tmp_path: Path) -> None:
    key = tmp_path / "keys" / "host"
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | {
        "PORT": "0",  # the system chooses, and the log says
        "SSH_PORT": "0",
        "METRICS_PORT": "0",
        "TUNNEL_SERVER_LISTEN_HOST": "127.0.0.1",
        "TUNNEL_SERVER_METRICS_HOST": "127.0.0.1",
        "TUNNEL_SERVER_SSH_HOST_KEY_PATH": str(key),
    }
    process = await asyncio.create_subprocess_exec(
        installed / "tunnel-server", "run", cwd=tmp_path, env=environment, stderr=PIPE
    )
    try:
        async with asyncio.timeout(LIMIT):
            ports = await started(process)
            visit = Visit(*await asyncio.open_connection("127.0.0.1", ports["http_port"]))
            await visit.send("GET", "/healthz", "Host: localhost", "Connection: close")
            answer = await visit.answer()
            visit.close()
            await visit.closed()
            client, writer = await asyncio.open_connection("127.0.0.1", ports["ssh_port"])
            greeting = await client.readline()
            writer.close()
            await writer.wait_closed()

            process.send_signal(signal.SIGTERM)
            _, log = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()

    assert (answer.status, answer.body.strip()) == (200, b"OK")
    assert greeting.startswith(b"SSH-2.0-")
    assert key.is_file()
    assert process.returncode == 0, log.decode()
