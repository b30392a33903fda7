"""A child image with a plugin, by the three lines of the documentation."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from containers import ROOT, build
from peers import PrivateNetwork, Visitor, publish

PAGE = ROOT / "docs" / "how-to" / "containers.md"
ONE_TUNNEL = {"TUNNEL_SERVER_QUOTAS_TUNNELS_PER_KEY": "1"}


@pytest.fixture
def child(image: str, tmp_path: Path) -> str:
    """The image that the documentation's lines make on top of the server's."""
    lines = re.findall(r"^    ((?:FROM|COPY|RUN) .+)$", PAGE.read_text(), re.MULTILINE)
    assert len(lines) == 3
    (tmp_path / "Dockerfile").write_text("\n".join(lines).replace("FROM tunnel-server", f"FROM {image}"))
    made = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "plugins" / "quotas", tmp_path / "quotas", ignore=made)
    return build(tmp_path)


@pytest.mark.usefixtures("app")
def test_its_plugin_is_found_and_refuses_what_it_is_told_to(
    network: PrivateNetwork, visitor: Visitor, key: bytes, child: str
) -> None:
    server = network.server(child, environ=ONE_TUNNEL, read_only=True).started()
    client = network.client(key)

    assert visitor.get(client.url()).status == 200
    second = client.tried(*publish("second"))

    assert json.loads(second.stdout)["tunnels"] == {}
    assert "1 tunnel" in second.stderr
    assert server.run("id", "-u") == "10001"
