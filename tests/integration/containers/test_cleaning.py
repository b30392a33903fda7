"""What tests make in the engine goes by its label, and only that."""

from __future__ import annotations

import uuid
from pathlib import Path

from containers import LABEL, NAME, STALE, docker, remove


def left(label: str) -> list[str]:
    kinds = {"container": ["-a"], "network": [], "volume": [], "image": []}
    return [
        kind for kind, all_ in kinds.items() if docker(kind, "ls", "-q", *all_, "--filter", f"label={label}")
    ]  # fmt: skip


def test_all_with_the_label_goes_when_it_is_old_enough(base_image: str, tmp_path: Path) -> None:
    label = f"{NAME}={uuid.uuid4().hex}"
    try:
        _make_all_and_remove(label, base_image, tmp_path)
    finally:
        remove(label)


def _make_all_and_remove(label: str, base_image: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {base_image}\nLABEL {label}\nVOLUME /data\n")
    image = docker("build", "-q", str(tmp_path)).split()[-1]
    network = docker("network", "create", "--internal", "--label", label, uuid.uuid4().hex)
    docker("run", "-d", "--network", network, "--label", label, image, "sleep", "infinity")
    docker("volume", "create", "--label", label, uuid.uuid4().hex)
    another = docker("volume", "create", "--label", LABEL, uuid.uuid4().hex)

    remove(label, older_than=STALE)
    assert left(label) == ["container", "network", "volume", "image"]

    remove(label)
    assert left(label) == []
    assert docker("volume", "inspect", "-f", "{{.Name}}", another) == another
