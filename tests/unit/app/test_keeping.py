from __future__ import annotations

from pathlib import Path

import pytest

from tunnel_server.app import keeping
from tunnel_server.app.settings import Settings

ALL = Settings(acme="https://ca.test/directory", dev_tls=True)


def names(settings: Settings) -> list[str]:
    return [what for what, *_ in keeping.passing(settings)]


@pytest.fixture
def in_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text("1 0 0:64 / / rw - overlay overlay rw\n")
    monkeypatch.setattr(keeping, "MOUNTS", mounts)


@pytest.mark.usefixtures("in_a_container")
def test_all_that_a_server_keeps_in_a_container_without_volumes_will_be_lost() -> None:
    assert names(ALL) == ["SSH host key", "ACME account and certificates", "CA for development"]


@pytest.mark.usefixtures("in_a_container")
def test_what_a_server_is_given_is_not_lost() -> None:
    assert names(Settings(ssh_host_key="LS0t")) == []


def test_nothing_is_said_where_there_is_no_list_of_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "MOUNTS", tmp_path / "none")

    assert names(ALL) == []
