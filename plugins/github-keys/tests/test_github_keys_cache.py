"""The file that outlives a restart."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path

import pytest
from tunnel_server_github_keys import cache
from tunnel_server_github_keys.library import Document

KEPT = {
    "https://github.com/ada.keys": Document(1000.5, ("AAAA", "BBBB"), 'W/"x"', False),
    "https://api.github.com/orgs/acme/members?per_page=100&page=1": Document(7.0, (), "", True),
}


def test_what_is_kept_is_found_again_in_a_file_of_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cache.json"

    cache.save(path, KEPT)
    cache.save(path, KEPT)

    assert cache.load(path) == KEPT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["cache.json"]


def test_no_file_is_an_empty_cache(tmp_path: Path) -> None:
    assert cache.load(tmp_path / "nothing") == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[]",
        "{}",
        '{"form": 2, "documents": {}}',
        '{"form": 1, "documents": []}',
        '{"form": 1, "documents": {"u": []}}',
        '{"form": 1, "documents": {"u": ["1", [], "", false]}}',
        '{"form": 1, "documents": {"u": [1, [1], "", false]}}',
        '{"form": 1, "documents": {"u": [1, [], "", 0]}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_file_is_refused_whole(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cache.json"
    path.write_text(text)

    with pytest.raises(cache.BadCache):
        cache.load(path)


def test_a_file_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cache.json"
    cache.save(path, KEPT)
    path.chmod(0o620)

    with pytest.raises(cache.BadCache, match="write"):
        cache.load(path)


def test_a_time_to_come_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "cache.json"
    path.write_text(json.dumps({"form": 1, "documents": {"u": [1e12, [], "", False]}}))
    path.chmod(0o600)

    assert cache.load(path)["u"].at <= time.time()


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cache.json"
    cache.save(path, KEPT)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        cache.save(path, {})

    assert cache.load(path) == KEPT
    assert [entry.name for entry in tmp_path.iterdir()] == ["cache.json"]
