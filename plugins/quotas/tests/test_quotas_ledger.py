"""The bytes of the day, and the file that keeps them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from quotas_kit import NOON, Clock
from tunnel_server_quotas import ledger as ledgers
from tunnel_server_quotas.ledger import DAY, Account, Ledger
from tunnel_server_quotas.state_file import StateFile


def test_octets_add_up_until_midnight() -> None:
    clock = Clock(NOON)
    ledger = Ledger(clock)
    ledger.add("k", 100)
    ledger.add("k", 20)

    assert ledger.spent("k") == 120
    assert ledger.until_midnight() == DAY // 2

    clock.now = NOON + DAY // 2 - 0.5
    assert ledger.spent("k") == 120
    assert ledger.until_midnight() == 1

    clock.now += 0.5
    assert ledger.spent("k") == 0
    assert ledger.until_midnight() == DAY


def test_a_clock_set_back_over_midnight_gives_no_second_day() -> None:
    clock = Clock(NOON + DAY // 2 + 1)
    ledger = Ledger(clock)
    ledger.add("k", 5)

    clock.now -= 2
    assert ledger.spent("k") == 5

    clock.now += 2
    assert ledger.spent("k") == 5


def test_a_clock_set_back_by_days_begins_anew() -> None:
    clock = Clock(NOON + 10 * DAY)
    ledger = Ledger(clock)
    ledger.add("k", 5)

    clock.now = NOON

    assert ledger.spent("k") == 0


def test_more_keys_than_can_be_known_never_get_octets_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "MOST", 100)
    ledger = Ledger(Clock(NOON))
    true: dict[str, int] = {}
    for at in range(10_000):
        key, octets = f"k{at * 7919 % 1013}", at % 37 + 1
        true[key] = true.get(key, 0) + octets
        ledger.add(key, octets)

        assert len(ledger) <= 100
    assert all(ledger.spent(key) >= octets for key, octets in true.items())


def test_a_flood_of_keys_leaves_the_large_counts_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "MOST", 100)
    ledger = Ledger(Clock(NOON))
    ledger.add("large", 1_000_000)

    for at in range(1000):
        ledger.add(f"k{at}", 10)

    assert ledger.spent("large") == 1_000_000
    assert ledger.spent("new") <= 1000 * 10 / 50


def test_what_was_kept_is_gone_on_with(tmp_path: Path) -> None:
    clock, file = Clock(NOON), StateFile(tmp_path / "state")
    before = Ledger(clock)
    for at in range(1234):
        before.add(f"urn:k{at}", at)
    file.write(before.copy(), 1)

    after = Ledger(clock)
    account = file.read()

    assert account is not None and after.restore(account)
    assert after.copy() == before.copy()
    assert after.spent("urn:k1233") == 1233


def test_what_was_kept_yesterday_counts_no_more(tmp_path: Path) -> None:
    clock, file = Clock(NOON), StateFile(tmp_path / "state")
    before = Ledger(clock)
    before.add("k", 5)
    file.write(before.copy(), 1)
    clock.now += DAY

    after = Ledger(clock)
    account = file.read()

    assert account is not None and not after.restore(account)
    assert after.spent("k") == 0


def test_the_file_is_its_owners_alone_and_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_text("old")
    path.chmod(0o666)
    with path.open() as old:
        StateFile(path).write(Account(1, 0, {"k": 1}), 1)

        assert old.read() == "old"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["state"]


def test_a_write_that_was_overtaken_is_left_out(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state")
    file.write(Account(1, 0, {"k": 2}), 2)

    file.write(Account(1, 0, {"k": 1}), 1)

    assert file.read() == Account(1, 0, {"k": 2})


def test_a_write_that_fails_leaves_what_was_kept(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state")
    file.write(Account(1, 0, {"k": 1}), 1)
    (tmp_path / "state.new").mkdir()

    with pytest.raises(OSError, match=r"state\.new"):
        file.write(Account(1, 0, {"k": 2}), 2)

    assert file.read() == Account(1, 0, {"k": 1})


def test_a_link_in_the_way_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "state.new").symlink_to(victim)

    with pytest.raises(OSError, match=r"state\.new"):
        StateFile(tmp_path / "state").write(Account(1), 1)

    assert victim.read_text() == "precious"


def test_no_file_is_no_counts(tmp_path: Path) -> None:
    assert StateFile(tmp_path / "state").read() is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"root:x:0:0\n",
        b"quotas 2 1 0\n",
        b"quotas 1 1\n",
        b"quotas 1 1 0\nk\n",
        b"quotas 1 1 0\nk -5\n",
        b"quotas 1 1 0\nk 1 2\n",
        b"quotas 1 1 0\n\xff\xff 5\n",
        b"quotas 1 1 0\nk " + b"9" * 5000 + b"\n",
        b"quotas 1 1 0\n" + b"k 1\n" * 60_000,
        b"x" * (17 << 20),
    ],
    ids=range(11),
)
def test_another_file_is_told_from_a_state_file(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "state"
    path.write_bytes(text)

    with pytest.raises(ValueError, match="is not a state file of quotas"):
        StateFile(path).read()
