"""The page for those who come from the reference server says what the code does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tunnel_server.adapters.metrics.compatible import CompatibleMetrics
from tunnel_server.adapters.metrics.prometheus import PrometheusMetrics
from tunnel_server.adapters.plugins.registered import declared_settings
from tunnel_server.app import settings as known
from tunnel_server.app.plugins import house
from tunnel_server.house.private_tunnels.options import KEY_FILE

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "how-to/from-preevy.md").read_text()
SECTION = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
NO_SETTINGS = {"NODE_ENV"}  # of theirs, which the page says are not read


def rows(section: str) -> list[list[str]]:
    """Return the cells of a section's table, without its head."""
    lines = [line for line in SECTION[section].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def of_the_server() -> Mapping[str, Any]:
    """Return the default of each setting that the reference server knows, too, by its name there."""
    defaults, values = known.load({}, {}, None).settings, dict[str, Any]()
    for name in known.names():
        if plain := known.about(name).env:
            values[plain] = getattr(defaults, name)
    for declared in declared_settings(house()).values():
        values |= {its.env: its.default for its in declared if its.env}
    return values


def test_every_variable_of_the_reference_server_is_there_once_and_no_other() -> None:
    names = [cells[0].strip("`") for cells in rows("Variables")]

    assert sorted(names) == sorted([*of_the_server(), *NO_SETTINGS])


def test_the_defaults_are_those_of_the_code() -> None:
    shown = {cells[0].strip("`"): cells[1].strip("`") for cells in rows("Variables")}

    for name, value in of_the_server().items():
        if shown[name] in ("none", "off", "random", "the base host", "the file below"):
            assert not value, name
        else:
            assert shown[name] == str(value), name


@pytest.mark.parametrize("name", sorted(NO_SETTINGS))
def test_what_is_not_read_changes_nothing(name: str) -> None:
    assert known.load({}, {name: "production"}, None) == known.load({}, {}, None)


def test_every_prefixed_variable_is_a_setting() -> None:
    named = set(re.findall(r"\bTUNNEL_SERVER_([A-Z_]+[A-Z])\b", PAGE))

    assert named
    assert sorted(named - {name.upper() for name in known.names()}) == []


def test_the_ports_are_the_defaults() -> None:
    defaults = known.load({}, {}, None).settings
    listening = [defaults.port, defaults.ssh_port, defaults.tls_port, defaults.metrics_port]

    assert [cells[1] for cells in rows("Ports")] == [str(port) for port in listening]
    assert [int(cells[0].partition(",")[0]) for cells in rows("Ports")] == listening


def test_the_metrics_are_those_of_the_code() -> None:
    named = {cells[0].strip("`") for cells in rows("Metrics")}
    shown = PrometheusMetrics().render()[0].decode()

    assert named == CompatibleMetrics.NAMES
    assert all(f"# TYPE {name} " in shown for name in named)


def test_the_files_in_the_image_are_the_defaults_below_its_working_folder() -> None:
    defaults = known.load({}, {}, None).settings
    ours = {path for cells in rows("Files and volumes") for path in re.findall(r"`(/[^`]+)`", cells[1])}

    assert ours == {
        path.replace("./", "/data/", 1)
        for path in (defaults.ssh_host_key_path, defaults.tls_cert_file, defaults.tls_key_file)
    }
    assert f"`{KEY_FILE}`" in SECTION["Files and volumes"]


def test_the_limits_in_the_table_of_addresses_are_the_defaults() -> None:
    defaults = known.load({}, {}, None).settings

    assert f"waits {defaults.response_timeout:g} s" in SECTION["Addresses"]
    assert f"up to {defaults.head_size >> 10} KiB" in SECTION["Addresses"]
    assert f"Requests at once on a tunnel: {defaults.max_channels}," in SECTION["What is better"]
    assert f"closed after {defaults.login_timeout:g} s" in SECTION["What is better"]
