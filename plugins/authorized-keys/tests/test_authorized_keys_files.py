"""Files on disk: what is read again, what is left as it was, and when a change counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tunnel_server_authorized_keys import files as module
from tunnel_server_authorized_keys.files import MAX_FILE, MAX_FILES, MAX_LOOKS, KeyFiles, Look, Rest


def test_a_directory_is_read_by_name_without_what_is_hidden_a_copy_or_a_directory(tmp_path: Path) -> None:
    for name in ("b", "a", ".hidden", "a~"):
        (tmp_path / name).write_text(name)
    (tmp_path / "deeper").mkdir()

    look = KeyFiles(tmp_path).look()

    assert list(look.texts.items()) == [("a", b"a"), ("b", b"b")]
    assert not look.failures


def test_a_change_is_seen_even_if_size_and_time_stay_and_an_old_file_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("one")
    files = KeyFiles(path)

    first = files.look()
    status = path.stat()
    path.write_text("two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = files.look()
    os.utime(path, (1, 1))
    third, fourth = files.look(), files.look()

    assert first.texts == {"keys": b"one"}
    assert second.texts == {"keys": b"two"}
    assert third.texts["keys"] is fourth.texts["keys"]


def test_a_young_file_is_read_again_whatever_its_status_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_identity", lambda _: (1,))
    path = tmp_path / "keys"
    path.write_text("one")
    files = KeyFiles(path)
    files.look()

    path.write_text("two")

    assert files.look().texts == {"keys": b"two"}


def test_a_link_that_is_swapped_shows_the_new_file(tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "keys").write_text(version)
        os.utime(tmp_path / f"..{version}" / "keys", (1, 1))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "keys").symlink_to("..data/keys")
    in_folder, alone = KeyFiles(tmp_path), KeyFiles(tmp_path / "keys")
    assert in_folder.look().texts == alone.look().texts == {"keys": b"1"}

    (tmp_path / "..fresh").symlink_to("..2")
    (tmp_path / "..fresh").rename(tmp_path / "..data")

    assert in_folder.look().texts == alone.look().texts == {"keys": b"2"}


def test_what_is_no_file_or_too_large_or_gone_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    with (tmp_path / "large").open("wb") as large:
        large.truncate(MAX_FILE + 1)
    (tmp_path / "good").write_text("x")

    look = KeyFiles(tmp_path).look()

    assert set(look.failures) == {"pipe", "dangling", "large"}
    assert look.texts == {"good": b"x"}
    for path in (tmp_path / "pipe", tmp_path / "dangling", tmp_path / "nothing"):
        assert set(KeyFiles(path).look().failures) == {""}


def test_a_directory_with_too_many_files_is_refused_whole(tmp_path: Path) -> None:
    for number in range(MAX_FILES + 1):
        (tmp_path / str(number)).touch()

    assert set(KeyFiles(tmp_path).look().failures) == {""}


def test_a_change_counts_once_two_looks_agree() -> None:
    rest = Rest(Look({"a": b"1"}))

    assert rest.settled(Look({"a": b""})) is None
    assert rest.settled(Look({"a": b"2"})) is None
    assert rest.settled(Look({"a": b"2"})) == Look({"a": b"2"})
    assert rest.settled(Look({"a": b"2"})) is None


def test_a_file_that_is_empty_for_a_moment_changes_nothing() -> None:
    rest = Rest(Look({"a": b"1"}))

    assert rest.settled(Look({"a": b""})) is None
    assert rest.settled(Look({"a": b"1"})) is None
    assert rest.settled(Look({"a": b""})) is None


def test_files_that_never_come_to_rest_are_taken_in_the_end() -> None:
    rest = Rest(Look({"a": b"1"}))

    taken = [rest.settled(Look({"a": b"x" * number})) for number in range(MAX_LOOKS)]

    assert [look is not None for look in taken] == [False] * (MAX_LOOKS - 1) + [True]


@pytest.mark.parametrize("name", ["", "a"])
def test_what_cannot_be_read_stays_as_it_was(name: str) -> None:
    rest = Rest(Look({"a": b"1"}))
    broken = Look({}, {name: "Permission denied"})

    assert [rest.settled(broken) for _ in range(3)] == [None] * 3
    assert rest.applied.texts == {"a": b"1"}


def test_a_file_that_is_gone_from_a_directory_is_gone() -> None:
    rest = Rest(Look({"a": b"1", "b": b"2"}))

    rest.settled(Look({"a": b"1"}))

    assert rest.settled(Look({"a": b"1"})) == Look({"a": b"1"})
