"""The image by itself: what is in it and what is not, that it can be built again, how fast and lean it starts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import tomllib
from datetime import datetime
from pathlib import Path

from containers import LABEL, ROOT, build, docker, healthy, wait_until
from rig import need

HOME = "/opt/tunnel-server"
ABOVE_BASE = 110e6  # octets
IDLE = 90  # MiB
WARM_BUILD = 60  # seconds
PACKAGE = "import tunnel_server.app.cli, tunnel_server.app.serve"
# Of each file the kind, mode, time, where it leads and its content. The folder itself is made when it is copied.
CONTENT = f"cd {HOME} && find . -mindepth 1 -printf '%P %y %m %T@ %l\\n' && find . -type f -exec sha256sum {{}} +"


def started(image: str, *options: str) -> str:
    """Start a container of the image and return its id."""
    return docker("run", "-d", "--label", LABEL, *options, image)


def printed(image: str, program: str, *words: str) -> str:
    """Return what another program than the server prints in a container of the image."""
    return docker("run", "--rm", "--label", LABEL, "--entrypoint", program, image, *words)


def event(container: str, name: str) -> dict[str, str] | None:
    """Return the log's line with this event, if it is there."""
    lines = subprocess.run([need("docker"), "logs", container], capture_output=True, text=True).stderr.splitlines()
    return next((line for line in map(json.loads, lines) if line["event"] == name), None)


def test_its_labels_say_what_it_is(image: str) -> None:
    labels = json.loads(docker("inspect", "-f", "{{json .Config.Labels}}", image))

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    said = {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()}
    assert (said["title"], said["licenses"]) == (project["name"], project["license"])
    assert said["version"] == project["version"] == printed(image, "tunnel-server", "--version").split()[1]


def test_it_holds_no_tools_to_build_with_and_is_small(image: str, base_image: str) -> None:
    tools = "cc gcc g++ clang make cargo rustc git"
    look = f"for name in {tools}; do command -v $name >/dev/null && echo $name; done; ls {HOME}/lib/*/site-packages"
    brought = set(printed(image, "sh", "-c", look).split()) - set(
        printed(base_image, "sh", "-c", look + " || :").split()
    )
    sizes = [int(docker("inspect", "-f", "{{.Size}}", name)) for name in (image, base_image)]

    assert "tunnel_server" in brought
    assert not brought & {*tools.split(), "pip", "setuptools", "wheel", "build"}
    assert sizes[0] - sizes[1] < ABOVE_BASE


def test_a_build_without_a_cache_makes_the_same_files(image: str, base_image: str, source: Path) -> None:
    again = build(source, "--no-cache", "--target", "build", "--build-arg", f"PYTHON_IMAGE={base_image}")

    first, second = (set(printed(made, "sh", "-c", CONTENT).splitlines()) for made in (image, again))
    assert len(first) > 1000
    assert first ^ second == set()


def test_a_change_of_the_sources_is_built_within_a_minute(
    image: str, base_image: str, source: Path, tmp_path: Path
) -> None:
    changed = shutil.copytree(source, tmp_path / "changed")
    with (changed / "src" / "__init__.py").open("a") as file:
        file.write("CHANGED = True\n")
    before = time.monotonic()

    made = build(changed, "--build-arg", f"PYTHON_IMAGE={base_image}")

    assert time.monotonic() - before < WARM_BUILD
    assert printed(made, "python", "-c", "import tunnel_server; print(tunnel_server.CHANGED)") == "True"


def test_it_is_ready_in_twice_the_time_that_the_import_of_its_package_takes(image: str) -> None:
    imports, starts = [], []
    for _ in range(3):
        before, after = printed(image, "sh", "-c", f"date +%s.%N; python -c '{PACKAGE}'; date +%s.%N").split()
        imports.append(float(after) - float(before))
        container = started(image)
        ready = datetime.fromisoformat(wait_until(lambda c=container: event(c, "server.started"), "ready")["timestamp"])
        begun = datetime.fromisoformat(docker("inspect", "-f", "{{.State.StartedAt}}", container))
        starts.append((ready - begun).total_seconds())
        docker("rm", "-f", "-v", container)

    assert min(starts) < 2 * min(imports)


def test_it_is_healthy_by_its_own_check_and_lean_when_idle(image: str) -> None:
    container = started(image, "--health-interval", "1s")

    healthy(container)

    status = docker("exec", container, "cat", "/proc/1/status")
    assert int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024 < IDLE
