"""What the image is made of is what the package asks for, and nothing else can come in its place."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WANTED = {
    "requirements.txt": PROJECT["project"]["dependencies"],
    "build-requirements.txt": PROJECT["build-system"]["requires"],
}
HASH = re.compile(r" --hash=sha256:[0-9a-f]{64}(?= |$)")

pytestmark = pytest.mark.parametrize("name", WANTED)


def text(name: str) -> str:
    return (ROOT / "deploy" / "image" / name).read_text()


def entries(name: str) -> list[str]:
    """Return the file's requirements with their hashes, each a line, without comments."""
    lines = [line for line in text(name).splitlines() if not line.strip().startswith("#")]
    return re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).splitlines()


def requirements(name: str) -> list[Requirement]:
    return [Requirement(HASH.sub("", entry)) for entry in entries(name)]


def test_every_requirement_is_one_version_with_its_hashes(name: str) -> None:
    assert [entry for entry in entries(name) if not HASH.search(entry)] == []
    assert [found for found in requirements(name) if not re.fullmatch(r"==[^*,]+", str(found.specifier))] == []


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_all_that_is_asked_for_is_there_for_every_python_and_machine(name: str, python: str, machine: str) -> None:
    linux = {
        "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": machine,
        "python_version": python, "python_full_version": f"{python}.0", "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }  # fmt: skip
    for_it = [found for found in requirements(name) if found.marker is None or found.marker.evaluate(linux)]
    versions = {canonicalize_name(found.name): str(found.specifier).removeprefix("==") for found in for_it}

    wanted = [Requirement(entry) for entry in WANTED[name]]
    missing = [it for it in wanted if not it.specifier.contains(versions.get(canonicalize_name(it.name), "0"))]

    assert missing == [], "run: make lock"
    assert len(versions) == len(for_it)


def test_no_place_to_get_it_from_is_named(name: str) -> None:
    assert re.findall(r"\S+://\S+|--(?:extra-)?index-url|--find-links| @ ", text(name)) == []
