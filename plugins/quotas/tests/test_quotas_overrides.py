"""Other limits for certain keys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from quotas_kit import client, values
from tunnel_server_quotas.limits import Limits
from tunnel_server_quotas.overrides import Overrides, fingerprint

ALICE = client("alice")
BOB = client("bob")


def overrides(path: Path, text: str, **usual: Any) -> Overrides:
    path.write_text(text)
    found = Overrides(values(**usual), path)
    found.load()
    return found


def test_without_a_file_all_clients_have_the_usual_limits() -> None:
    found = Overrides(values(tunnels_per_key=3), None)

    assert not found.load()
    assert not found.may_change
    assert found.of(ALICE) == Limits(tunnels=3)


@pytest.mark.parametrize("name", [fingerprint(ALICE.public_key), str(ALICE.thumbprint), str(ALICE.id)])
def test_a_key_is_named_by_fingerprint_thumbprint_or_client_id(tmp_path: Path, name: str) -> None:
    found = overrides(tmp_path / "f", f'["{name}"]\ntunnels_per_key = 50\nbytes_per_day = "2GiB"', tunnels_per_key=3)

    assert found.of(ALICE) == Limits(tunnels=50, bytes_per_day=2 << 30)
    assert found.of(BOB) == Limits(tunnels=3)


def test_what_an_exception_does_not_name_is_as_usual(tmp_path: Path) -> None:
    text = f'["{ALICE.id}"]\nrequests_per_second_per_key = 0.5\n'

    limits = overrides(tmp_path / "f", text, bytes_per_day=77, burst_per_key=9).of(ALICE)

    assert (limits.bytes_per_day, limits.key.per_second, limits.key.burst) == (77, 0.5, 9)


def test_the_fingerprint_counts_before_the_client_id_which_others_may_have(tmp_path: Path) -> None:
    text = f'["{ALICE.id}"]\ntunnels_per_key = 1\n["{fingerprint(ALICE.public_key)}"]\ntunnels_per_key = 2\n'

    assert overrides(tmp_path / "f", text).of(ALICE).tunnels == 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[", "exceptions file"),
        ("tunnels_per_key = 5", "is no fingerprint"),
        ('["SHA256:short"]', "'SHA256:short' is no fingerprint"),
        ("abc = 5", "abc is not a table"),
        ("[abc]\ntunnels = 5", "'tunnels', which is not one of tunnels_per_key"),
        ("[abc]\nexceptions_file = 'x'", "is not one of"),
        ("[abc]\ntunnels_per_key = -5", "tunnels_per_key of abc is not a whole number"),
        ("[abc]\ntunnels_per_key = true", "neither a number nor a text"),
        ("[abc]\ntunnels_per_key = [1]", "neither a number nor a text"),
        ("[abc]\nbytes_per_day = 'much'", "bytes_per_day of abc is not a size"),
        ("[abc]\nrequests_per_second_per_key = nan", "of abc is not a rate"),
        ("x = " + "[" * 5000, "exceptions file"),
        ("#" * (1 << 20) + "#", "more than"),
    ],
    ids=range(13),
)
def test_a_file_that_is_wrong_is_refused_saying_where(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        overrides(tmp_path / "f", text)

    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ValueError, match="exceptions file"):
        Overrides(values(), tmp_path / "f").load()


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "f"
    found = overrides(path, f"[{ALICE.id}]\ntunnels_per_key = 1")
    assert not found.load()

    path.write_text(f"[{ALICE.id}]\ntunnels_per_key = 22")

    before = found.version
    assert found.load()
    assert found.version != before
    assert found.of(ALICE).tunnels == 22


def test_a_file_that_goes_wrong_keeps_what_it_said_and_is_told_of_once(tmp_path: Path) -> None:
    path = tmp_path / "f"
    found = overrides(path, f"[{ALICE.id}]\ntunnels_per_key = 1")
    path.write_text("[[[")

    with pytest.raises(ValueError, match="exceptions file"):
        found.load()

    assert not found.load()
    assert found.of(ALICE).tunnels == 1


def test_a_file_that_is_taken_away_keeps_what_it_said_and_is_told_of_once(tmp_path: Path) -> None:
    path = tmp_path / "f"
    found = overrides(path, f"[{ALICE.id}]\ntunnels_per_key = 1")
    os.unlink(path)

    with pytest.raises(OSError, match="No such file"):
        found.load()

    assert not found.load()
    assert found.of(ALICE).tunnels == 1


def test_a_file_that_is_not_there_at_the_start_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Overrides(values(), tmp_path / "f").load()
