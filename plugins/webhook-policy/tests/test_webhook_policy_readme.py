"""The README, held against the code."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tunnel_server_webhook_policy import WebhookPolicy
from tunnel_server_webhook_policy.signing import sign

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_every_setting_has_a_row() -> None:
    rows = "".join(line.split("|")[1] for line in README.splitlines() if line.startswith("| `"))

    for setting in WebhookPolicy().register_settings():
        assert f"`{setting.name}`" in rows


def test_every_metric_is_named() -> None:
    for collector in WebhookPolicy().register_metrics():
        for family in collector.collect():
            assert f"`{family.name.removeprefix('tunnel_server_webhook_policy_')}" in README


def test_the_recipe_takes_our_signature_and_no_other() -> None:
    found: dict[str, Any] = {}
    exec(README.partition("```python\n")[2].partition("```")[0], found)
    is_signed, now = found["is_signed"], int(time.time())

    assert is_signed("two", sign(("one", "two"), b"{}", now), b"{}")
    assert not is_signed("three", sign(("one", "two"), b"{}", now), b"{}")
    assert not is_signed("one", sign(("one",), b"{}", now), b"{ }")
    assert not is_signed("one", sign(("one",), b"{}", now - 400), b"{}")
    assert not is_signed("one", "", b"{}")
