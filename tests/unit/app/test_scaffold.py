"""What ``new-plugin`` makes, and what it refuses."""

from __future__ import annotations

import ast
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from tunnel_server.app.scaffold import create
from tunnel_server.domain.errors import InvalidPlugin

MALFORMED = ["", "My-policy", "my_policy", "-my", "my-", "my--policy", "1st", "a b", "a/b", "..", "é", "a" * 41, "a\n"]


def test_the_project_has_its_name_everywhere(tmp_path: Path) -> None:
    made = create("my-policy", tmp_path)

    project = tomllib.loads((made / "pyproject.toml").read_text())
    assert made == tmp_path / "tunnel-server-my-policy"
    assert project["project"]["name"] == "tunnel-server-my-policy"
    assert project["project"]["entry-points"] == {"tunnel_server": {"my-policy": "tunnel_server_my_policy:Plugin"}}
    assert (made / "src/tunnel_server_my_policy/py.typed").exists()
    assert "TUNNEL_SERVER_MY_POLICY_ALLOWED" in (made / "README.md").read_text()
    assert 'SETTINGS = {"my_policy_allowed": "web, api-*"}' in (made / "tests/test_my_policy.py").read_text()


def test_the_project_asks_for_this_server_or_a_later_one(tmp_path: Path) -> None:
    project = tomllib.loads((create("a", tmp_path) / "pyproject.toml").read_text())

    [needed] = project["project"]["dependencies"]
    least = needed.removeprefix("tunnel-server>=")
    assert version("tunnel-server").startswith(f"{least}.")


def test_nothing_is_left_to_fill_in(tmp_path: Path) -> None:
    made = create("none", tmp_path)  # in capitals a word of Python

    files = [path for path in made.rglob("*") if path.is_file()]
    assert [path.name for path in files if "$" in path.read_text().replace("${{ matrix.python }}", "")] == []
    for path in files:
        if path.suffix == ".py":
            ast.parse(path.read_text())


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_name_is_refused_with_an_example(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidPlugin, match="for example: my-policy"):
        create(name, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_name_with_the_prefix_is_refused_as_it_would_be_there_twice(tmp_path: Path) -> None:
    with pytest.raises(InvalidPlugin, match="leave 'tunnel-server-' out"):
        create("tunnel-server-my-policy", tmp_path)


def test_the_name_of_a_plugin_of_the_house_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidPlugin, match="reserved-names is a plugin of the server's own"):
        create("reserved-names", tmp_path)


def test_a_folder_that_exists_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    kept = tmp_path / "tunnel-server-my-policy" / "notes"
    kept.parent.mkdir()
    kept.write_text("mine")

    with pytest.raises(InvalidPlugin, match="exists already"):
        create("my-policy", tmp_path)

    assert [path.name for path in kept.parent.iterdir()] == ["notes"]


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_a_folder_to_make_it_in_that_is_none_is_refused_in_one_line(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(InvalidPlugin, match="cannot be made") as refused:
        create("my-policy", tmp_path / folder)

    assert "\n" not in str(refused.value)


def test_what_cannot_be_written_whole_is_not_left_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def full(path: Path, text: str, encoding: str) -> None:
        written.append(path)
        if len(written) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)

    with pytest.raises(InvalidPlugin, match="cannot be written: No space left on device"):
        create("my-policy", tmp_path)

    assert list(tmp_path.iterdir()) == []
