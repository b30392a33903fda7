"""The README names what there is, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from tunnel_server_quotas import Quotas
from tunnel_server_quotas.overrides import Overrides
from tunnel_server_quotas.settings import SETTINGS

HERE = Path(__file__).parent.parent
README = (HERE / "README.md").read_text()


def test_every_setting_is_in_the_table() -> None:
    rows = re.findall(r"^\| (`[^|]*`) \|", README, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}

    assert {setting.name for setting in SETTINGS} <= named


def test_every_metric_is_in_the_table() -> None:
    for collector in Quotas().register_metrics():
        for family in collector.collect():
            name = family.name + ("_total" if family.type == "counter" else "")

            assert f"`{name}" in README or f"`{name.replace('tunnel_server_quotas', '…')}`" in README, name


def test_every_log_line_is_named() -> None:
    sources = "".join(path.read_text() for path in (HERE / "src/tunnel_server_quotas").glob("*.py"))
    events = set(re.findall(r'"(quotas\.[a-z-]+)"', sources))

    assert events == set(re.findall(r"`(quotas\.[a-z-]+)`", README))


def test_the_example_of_exceptions_can_be_read(tmp_path: Path) -> None:
    block = re.search(r'^(    \["SHA256:.*?)\n\n[^ ]', README, re.MULTILINE | re.DOTALL)
    assert block is not None
    (tmp_path / "f").write_text(block[1])
    found = Overrides({setting.name: setting.default for setting in SETTINGS}, tmp_path / "f")

    found.load()

    assert len(found) == 2
