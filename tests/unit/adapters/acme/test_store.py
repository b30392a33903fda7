"""What is kept on disk."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tunnel_server.adapters.acme.pair import Pair, key_pem
from tunnel_server.adapters.acme.store import Store
from tunnel_server.domain.errors import InvalidSetting

PAIR = Pair(b"chain", b"key", 0.0, 1.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "acme")
    made.prepare()
    return made


@pytest.mark.parametrize("host", ["../up.de", "a/b", "", ".", "..", ".hidden", "a\0b", "/etc/passwd", "A.de", "_.de"])
def test_a_hostile_host_names_no_file(store: Store, tmp_path: Path, host: str) -> None:
    before = sorted(tmp_path.rglob("*"))

    for act in (store.load, store.drop, lambda name: store.save(name, PAIR)):
        with pytest.raises(ValueError, match=r"names no folder"):
            act(host)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_wildcard_and_its_host_have_folders_of_their_own(store: Store) -> None:
    store.save("*.a.de", PAIR)
    store.save("a.de", PAIR)

    assert store.hosts() == ["*.a.de", "a.de"]
    store.drop("*.a.de")
    assert store.hosts() == ["a.de"]


def test_folders_that_are_none_of_ours_are_not_looked_at(store: Store, tmp_path: Path) -> None:
    for name in (".snapshot", "lost+found", "UPPER.de", "a_b.de"):
        (tmp_path / "acme" / "certificates" / name).mkdir()

    assert store.hosts() == []


def test_what_is_damaged_is_set_aside_and_said(store: Store, tmp_path: Path) -> None:
    store.save("a.de", PAIR)

    with capture_logs() as lines:
        assert store.load("a.de") is None

    folder = tmp_path / "acme" / "certificates" / "a.de"
    assert [path.name for path in folder.iterdir()] == ["pair.pem.broken"]
    assert [line["event"] for line in lines] == ["acme.set_aside"]
    store.drop("a.de")
    assert not folder.exists()


def test_a_file_that_is_too_large_is_not_read_whole(store: Store, tmp_path: Path) -> None:
    store.save("a.de", Pair(b"x" * (1 << 20), b"", 0.0, 1.0))

    assert store.load("a.de") is None


def test_the_account_belongs_to_one_server(store: Store) -> None:
    assert store.account("https://ca.de/dir") is None
    store.keep_account("https://ca.de/dir", "https://ca.de/account/1")

    assert store.account("https://ca.de/dir") == "https://ca.de/account/1"
    assert store.account("https://other.de/dir") is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"null", b"\xff", b"[" * 100_000, b'{"directory": "d"}'])
def test_a_damaged_account_is_set_aside(store: Store, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "acme" / "account" / "account.json").write_bytes(content)

    assert store.account("d") is None
    assert (tmp_path / "acme" / "account" / "account.json.broken").read_bytes() == content


@pytest.mark.parametrize("uri", [b"1", b'""', b"null"])
def test_an_account_without_an_address_is_none(store: Store, tmp_path: Path, uri: bytes) -> None:
    (tmp_path / "acme" / "account" / "account.json").write_bytes(b'{"directory": "d", "uri": ' + uri + b"}")

    assert store.account("d") is None


def test_the_account_key_stays_the_same_and_a_new_one_forgets_the_account(store: Store, tmp_path: Path) -> None:
    key = key_pem(store.account_key())
    store.keep_account("d", "u")
    assert key_pem(store.account_key()) == key
    assert store.account("d") == "u"

    (tmp_path / "acme" / "account" / "key.pem").write_bytes(b"no key")

    assert key_pem(store.account_key()) != key
    assert store.account("d") is None


def test_nobody_else_reads_what_is_written_even_under_a_loose_umask(store: Store, tmp_path: Path) -> None:
    store.account_key()
    store.keep_account("d", "u")
    store.save("a.de", PAIR)

    for path in (tmp_path / "acme").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_a_write_that_fails_keeps_what_was_there(store: Store, tmp_path: Path) -> None:
    store.keep_account("d", "old")
    folder = tmp_path / "acme" / "account"
    (folder / "account.json").rename(folder / "kept")
    (folder / "account.json").mkdir()  # a file cannot take its place

    with pytest.raises(OSError, match=r".+"):
        store.keep_account("d", "new")
    assert sorted(path.name for path in folder.iterdir()) == ["account.json", "kept"]


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(InvalidSetting, match="file"):
        Store(tmp_path / "file").prepare()
