"""The guests as they are installed: built, put beside the server, and found by it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

GUESTS = Path(__file__).parents[2] / "plugins"
NAMES = sorted(path.parent.name for path in GUESTS.glob("*/pyproject.toml"))
LIMIT = 100  # seconds


@pytest.mark.parametrize("name", NAMES)
def test_a_guest_that_is_installed_is_found_with_its_version_and_hooks(name: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(GUESTS / name, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target"]
    done = subprocess.run([*install, tmp_path / "site", source], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr

    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-m", "tunnel_server", "plugins", "--json"]
    listed = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT)

    assert listed.returncode == 0, listed.stderr
    found = {row["name"]: row for row in json.loads(listed.stdout)}[name]
    assert (found["version"], found["source"]) == (project["version"], f"package {project['name']}")
    assert found["hooks"]
    assert project["license"] == "Apache-2.0" and (source / "README.md").read_text().count("TUNNEL_SERVER_") > 0
