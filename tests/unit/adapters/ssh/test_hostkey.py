from __future__ import annotations

import base64
import errno
import os
from pathlib import Path

import asyncssh
import pytest

from tunnel_server.adapters.ssh.hostkey import DEFAULT, load_host_key
from tunnel_server.app.settings import Settings
from tunnel_server.domain.errors import InvalidHostKey

KEY = asyncssh.generate_private_key("ssh-ed25519", comment="theirs")
PACKED = base64.b64encode(KEY.export_private_key()).decode()


@pytest.mark.parametrize(
    "encoded",
    [PACKED, base64.encodebytes(KEY.export_private_key()).decode(), PACKED.rstrip("="), f" {PACKED}\n"],
    ids=["one line", "lines", "no padding", "blanks"],
)
def test_a_key_may_be_given_in_base64_however_it_was_printed(encoded: str, tmp_path: Path) -> None:
    assert load_host_key(tmp_path / "none", encoded).public_data == KEY.public_data
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("encoded", ["bm8=", "!", "A"])
def test_what_is_no_key_is_refused(encoded: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidHostKey, match="SSH_HOST_KEY"):
        load_host_key(tmp_path / "none", encoded)


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "ssh" / "key"

    first, second = load_host_key(path, None), load_host_key(path, None)

    assert first.public_data == second.public_data
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["key"]


def test_the_default_is_that_of_the_settings() -> None:
    assert Path(Settings().ssh_host_key_path) == DEFAULT


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / f".key.{os.getpid()}").touch()
    (tmp_path / ".key.1").touch()

    load_host_key(tmp_path / "key", None)

    assert sorted(entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".key")) == ["key"]


@pytest.mark.parametrize("there", [False, True])
def test_on_a_file_system_without_links_the_key_that_is_there_wins(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"

    def no_links(source: str, target: Path) -> None:
        if there:
            path.write_bytes(KEY.export_private_key())  # another process, in the meantime
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)

    made = load_host_key(path, None)

    assert made.public_data == load_host_key(path, None).public_data
    assert (made.public_data == KEY.public_data) == there
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_what_is_no_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(InvalidHostKey, match=f"cannot read the SSH host key {path}"):
            load_host_key(path, None)


def test_a_full_volume_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(InvalidHostKey, match="No space left"):
            load_host_key(tmp_path / "key", None)

    assert list(tmp_path.iterdir()) == []
    assert load_host_key(tmp_path / "key", None)
