"""The README, held against the code."""

from __future__ import annotations

from pathlib import Path

from tunnel_server_dns_challenge import NameServer
from tunnel_server_dns_challenge.metrics import OUTCOMES

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_every_setting_has_a_row_with_its_default() -> None:
    rows = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in README.splitlines() if line[:3] == "| `"}

    for setting in NameServer().register_settings():
        assert rows[f"`{setting.name}`"] == (f"`{setting.default}`" if setting.default else rows[f"`{setting.name}`"])


def test_every_metric_and_outcome_is_named() -> None:
    [collector] = NameServer().register_metrics()

    assert f"`{next(iter(collector.collect())).name}_total" in README
    for outcome in OUTCOMES:
        assert f"`{outcome}`" in README
