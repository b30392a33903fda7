"""What tests share that run the server in containers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import BUILD_LIMIT, LABEL, NAME, ROOT, STALE, build, have_engine, have_image, remove

SOURCE = ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE", "src", "deploy/image")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests of the image the time to build it: whichever runs first does."""
    for item in items:
        if "image" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(BUILD_LIMIT + 120))


@pytest.fixture(scope="session")
def engine() -> Iterator[None]:
    """A Docker Engine that answers. Afterwards nothing of ours is left there, also after a failure or Ctrl-C."""
    have_engine()
    remove(NAME, older_than=STALE)
    with pytest.MonkeyPatch.context() as environment:
        # Testcontainers would have a container clean up, whose image not everybody can get.
        environment.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
        try:
            yield
        finally:
            remove(LABEL)


@pytest.fixture(scope="session")
def base_image(engine: None) -> str:
    """What images are built from: a Python without anything of ours."""
    return have_image(os.environ.get("PYTHON_IMAGE", "python:3.13-slim-bookworm"))


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What images are built from, as it was when the tests began."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCE:
        folder.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def image(source: Path, base_image: str) -> str:
    """The server's image, built once a session."""
    return build(source, "--build-arg", f"PYTHON_IMAGE={base_image}")
