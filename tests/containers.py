"""The Docker Engine of the tests: what is built and run there is labelled, and gone when the tests end."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rig import need

ROOT = Path(__file__).parents[1]
NAME = "tunnel-server-test"
RUN = uuid.uuid4().hex
LABEL = f"{NAME}={RUN}"  # for `--label`; all that a test makes has it
BUILD_LIMIT = 300  # seconds
STALE = timedelta(hours=1)  # what a killed run left is older
# In this order, each with how to list and how to remove all of them.
_KINDS = (
    ("container", ["-a"], ["-f", "-v"]),
    ("network", [], []),
    ("volume", [], ["-f"]),
    ("image", [], ["-f"]),
)


def docker(*words: str, limit: float = 60, text: str | None = None) -> str:
    """Return what docker prints, given ``text`` to read; it has to succeed within ``limit`` seconds."""
    done = subprocess.run([need("docker"), *words], capture_output=True, text=True, timeout=limit, input=text)
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def build(folder: Path, *options: str) -> str:
    """Return the name of the image that ``folder`` makes; what it needs of the network it gets as this machine does."""
    # At the end of every stage: a label at the end of the last one would let the others stay.
    lines = (folder / "Dockerfile").read_text().splitlines()
    starts = [at for at, line in enumerate(lines) if line.startswith("FROM ")]
    for at in [len(lines), *reversed(starts[1:])]:
        lines.insert(at, f"LABEL {LABEL}")
    name = f"{NAME}:{uuid.uuid4().hex}"  # not every builder takes another's id after FROM
    words = ["build", "-q", "--force-rm", "--network", "host", "-t", name, "-f", "-", *options, str(folder)]
    docker(*words, limit=BUILD_LIMIT, text="\n".join(lines))
    return name


def wait_until(condition: Callable[[], object], what: str, limit: float = 30) -> Any:
    """Return the condition's value once it is true; for threads that drive programs, as ``until`` is for loops."""
    deadline = time.monotonic() + limit
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {limit} s: {what}"
        time.sleep(0.05)
    return value


def healthy(container: str) -> None:
    """Wait until the container's own health check says so."""
    wait_until(lambda: docker("inspect", "-f", "{{.State.Health.Status}}", container) == "healthy", "healthy")


def published(container: str, port: int) -> int:
    """Return the port of this machine that a container's is published at."""
    return int(docker("port", container, f"{port}/tcp").splitlines()[0].rpartition(":")[2])


def have_engine() -> None:
    """Skip where no Docker Engine answers; fail in CI."""
    if subprocess.run([need("docker"), "info"], capture_output=True).returncode:
        missing("no Docker Engine answers")


def have_image(name: str) -> str:
    """Return the name of an image that is there, or can be pulled; else skip, or fail in CI."""
    ways = (["image", "inspect", name], ["pull", "-q", name])
    if all(subprocess.run([need("docker"), *way], capture_output=True).returncode for way in ways):
        missing(f"the image {name} cannot be had")
    return name


def missing(reason: str) -> None:
    """Skip a person's run; fail CI."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


def remove(label: str, older_than: timedelta = timedelta()) -> None:
    """Remove all containers, networks, volumes and images with this label that are old enough."""
    for kind, listing, removal in _KINDS:
        for found in set(docker(kind, "ls", "-q", *listing, "--filter", f"label={label}").split()):
            about = subprocess.run([need("docker"), kind, "inspect", found], capture_output=True, text=True)
            if about.returncode == 0 and _age(json.loads(about.stdout)[0]) >= older_than:
                # Another run may have the same idea: what is gone is gone.
                subprocess.run([need("docker"), kind, "rm", *removal, found], capture_output=True)


def _age(about: dict[str, str]) -> timedelta:
    """Return how long ago it was made; what Docker gives no time for counts as new."""
    made = about.get("Created") or about.get("CreatedAt")
    return datetime.now(UTC) - datetime.fromisoformat(made) if made else timedelta()
