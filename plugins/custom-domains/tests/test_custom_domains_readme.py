"""The README, held against the code."""

from __future__ import annotations

from pathlib import Path

from tunnel_server_custom_domains import CustomDomains

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_every_setting_has_a_row() -> None:
    rows = "".join(line.split("|")[1] for line in README.splitlines() if line.startswith("| `"))

    for setting in CustomDomains().register_settings():
        assert f"`{setting.name}`" in rows


def test_every_metric_is_named() -> None:
    for collector in CustomDomains().register_metrics():
        for family in collector.collect():
            assert f"`{family.name.removeprefix('tunnel_server_custom_domains_')}" in README
