from __future__ import annotations

import base64
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
