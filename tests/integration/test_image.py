"""The image: built, run as nobody in particular with nothing to write to, and a child of it with a guest."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from rig import LIMIT, Service, answering, need, plain

ROOT = Path(__file__).parents[2]
LABEL = f"tunnel-server-test={uuid.uuid4().hex}"
BUILD_LIMIT = 300  # seconds
HOW_TO_HAVE = (["image", "inspect"], ["pull", "-q"])  # an image
pytestmark = pytest.mark.timeout(2 * BUILD_LIMIT)


def docker(*words: str, limit: float = 60) -> str:
    """Return what docker prints; it has to succeed."""
    done = subprocess.run([need("docker"), *words], capture_output=True, text=True, timeout=limit)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def build(folder: Path, *options: str) -> str:
    """Return the id of the image that ``folder`` makes; what it needs of the network it gets as this machine does."""
    return docker(
        "build", "-q", "--network", "host", "--label", LABEL, *options, str(folder), limit=BUILD_LIMIT
    ).split()[-1]


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """The server's image. Afterwards nothing of ours is left, also after a failure."""
    if subprocess.run([need("docker"), "info"], capture_output=True).returncode:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("no Docker Engine answers")
    base = os.environ.get("PYTHON_IMAGE", "python:3.13-slim-bookworm")
    if all(subprocess.run([need("docker"), *how, base], capture_output=True).returncode for how in HOW_TO_HAVE):
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"the base image {base} cannot be had")
    try:
        yield build(ROOT, "--build-arg", f"PYTHON_IMAGE={base}")
    finally:
        for kind, all_of_them in (("container", ["-a"]), ("image", [])):
            found = docker(kind, "ls", "-q", *all_of_them, "--filter", f"label={LABEL}").split()
            if found:
                docker(kind, "rm", "-f", *dict.fromkeys(found))


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def port_of(container: str, port: int) -> int:
    return int(docker("port", container, f"{port}/tcp").splitlines()[0].rpartition(":")[2])


async def test_it_serves_as_any_user_with_nothing_to_write_to_and_keeps_its_identity(image: str) -> None:
    volume = docker("volume", "create", "--label", LABEL)
    options = ["--read-only", "--user", "54321:54321", "--cap-drop", "ALL", "--label", LABEL, "-v", f"{volume}:/data"]
    ports = ["-p", "127.0.0.1::3000", "-p", "127.0.0.1::2222", "-e", "BASE_URL=http://tunnels.test"]
    keys = []
    try:
        for _ in range(2):
            container = docker("run", "-d", *options, *ports, image)
            wait_for(lambda c=container: docker("inspect", "-f", "{{.State.Health.Status}}", c) == "healthy")
            async with (
                Service(answering(plain(b"app"))) as service,
                asyncssh.connect(
                    "127.0.0.1", port_of(container, 2222), username="env", known_hosts=None, config=None,
                    agent_path=None, client_keys=[asyncssh.generate_private_key("ssh-ed25519")],
                ) as client,
            ):  # fmt: skip
                await client.forward_remote_path_to_port("/web", "127.0.0.1", service.port)
                url = json.loads(str((await client.run("tunnel-url web")).stdout))["web"]
                target = f"http://127.0.0.1:{port_of(container, 3000)}/"
                command = [need("curl"), "-s", "-H", f"Host: {url.split('/')[2]}", target]
                keys.append(client.get_server_host_key().public_data)  # type: ignore[union-attr]
                body = await printed(command)
            assert body == "app"
            docker("stop", "-t", str(int(LIMIT)), container)
            assert docker("inspect", "-f", "{{.State.ExitCode}}", container) == "0"
            docker("rm", container)
    finally:
        docker("volume", "rm", "-f", volume)
    assert keys[0] == keys[1]


async def printed(command: list[str]) -> str:
    """Return what a program prints, while the tunnel's client goes on in this loop."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(LIMIT):
        return (await process.communicate())[0].decode()


def test_a_guest_is_put_in_by_three_lines(image: str, tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "plugins" / "quotas", tmp_path / "quotas", ignore=shutil.ignore_patterns("build", "*.egg-info")
    )
    (tmp_path / "Dockerfile").write_text(
        f"FROM {image}\nCOPY --chown=10001:10001 quotas /tmp/quotas\nRUN pip install --no-deps /tmp/quotas\n"
    )

    child = build(tmp_path)

    listed = json.loads(docker("run", "--rm", "--label", LABEL, child, "plugins", "--json"))
    assert {row["name"]: row["source"] for row in listed}["quotas"] == "package tunnel-server-quotas"
    assert docker("inspect", "-f", "{{.Config.User}}", child) == "10001:10001"
