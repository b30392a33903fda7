from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tunnel_server.app.discovery import HOUSE, chosen, loaded, places
from tunnel_server.app.plugins import house, load
from tunnel_server.domain.errors import InvalidPlugin, InvalidSetting

ONE = """
from tunnel_server import Reject, Setting, hookimpl, reading

class Strict:
    @hookimpl
    def register_settings(self):
        return [Setting(name="limit", help="how many", default=3, read=reading.whole(1, 9), limits="1 to 9"),
                Setting(name="token", help="a secret", secret=True)]

    @hookimpl
    def configure(self, settings):
        if settings["limit"] == 7:
            raise ValueError("seven is not our number")
        self.limit = settings["limit"]

plugin = Strict
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_policy.py").write_text(ONE)
    (tmp_path / "_helper.py").write_text("raise RuntimeError")
    return tmp_path


def names(found: object) -> list[str]:
    return [place.name for place in found]  # type: ignore[attr-defined]


def test_the_house_comes_first_then_modules_then_files(folder: Path) -> None:
    found = names(places(["json.decoder:JSONDecoder", "my_package.policy"], str(folder)))

    assert found[: len(HOUSE)] == list(HOUSE)
    assert found[-3:] == ["decoder", "policy", "my-policy"]


def test_only_those_that_are_named_are_loaded(folder: Path) -> None:
    (folder / "broken.py").write_text("import nothing_of_that_name")

    loaded_names = [
        p.name for p in load({"plugins_dir": str(folder), "plugins": "my-policy"}, {}, None).plugins.plugins
    ]

    assert loaded_names == ["my-policy"]


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({"plugins": "accept-any-key, nobody"}, "there is no plugin nobody; found: accept-any-key"),
        ({"plugins_dir": "/nowhere/at/all"}, "folder of plugins /nowhere/at/all cannot be read"),
        ({"plugin_modules": "nothing_of_that_name"}, "plugin nothing-of-that-name .*ModuleNotFoundError"),
        ({"plugin_modules": "json:nothing"}, "plugin json .*AttributeError"),
        ({"plugin_modules": "json"}, "plugin json has no hook"),
        ({"plugin_modules": "./my/policy.py"}, "plugin policy .*it is a file: use --plugins-dir"),
        ({"plugin_modules": "json, my.json"}, "two plugins are called json"),
    ],
)
def test_what_cannot_be_loaded_is_named(flags: dict[str, str], complaint: str) -> None:
    with pytest.raises(InvalidPlugin, match=complaint):
        load(flags, {}, None)


def test_a_module_that_exits_stops_nothing_but_itself(folder: Path) -> None:
    (folder / "exits.py").write_text("raise SystemExit(3)")

    with pytest.raises(InvalidPlugin, match=r"plugin exits .*SystemExit"):
        load({"plugins_dir": str(folder)}, {}, None)


def test_a_plugins_settings_are_read_as_the_servers_own(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(f'plugins_dir = "{folder}"\nmy_policy_limit = 4\n')

    found = load({}, {"TUNNEL_SERVER_MY_POLICY_TOKEN": "s3cret"}, file)

    assert found.of_plugins["my-policy"] == {"limit": 4, "token": "s3cret"}
    assert found.origins["my_policy_token"] == "environment TUNNEL_SERVER_MY_POLICY_TOKEN"
    assert load({}, {"TUNNEL_SERVER_MY_POLICY_LIMIT": "5"}, file).of_plugins["my-policy"]["limit"] == 5


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({"TUNNEL_SERVER_MY_POLICY_LIMIT": "10"}, r"my_policy_limit: '10' .* is not from 1 to 9 \(1 to 9\)"),
        ({"TUNNEL_SERVER_MY_POLICY_LIMITS": "1"}, "did you mean TUNNEL_SERVER_MY_POLICY_LIMIT"),
        ({"TUNNEL_SERVER_OTHER_LIMIT": "1"}, "TUNNEL_SERVER_OTHER_LIMIT .* is no setting"),
    ],
)
def test_a_wrong_setting_of_a_plugin_is_named(folder: Path, environ: dict[str, str], complaint: str) -> None:
    with pytest.raises(InvalidSetting, match=complaint):
        load({"plugins_dir": str(folder)}, environ, None)


def test_a_plugin_that_does_not_take_its_settings_stops_the_start(folder: Path) -> None:
    found = load({"plugins_dir": str(folder)}, {"TUNNEL_SERVER_MY_POLICY_LIMIT": "7"}, None)

    with pytest.raises(InvalidPlugin, match="plugin my-policy failed in configure: seven is not our number"):
        found.start()


def test_a_setting_that_is_needed_is_asked_for(folder: Path) -> None:
    (folder / "my_policy.py").write_text(ONE.replace("secret=True", "required=True"))

    with pytest.raises(
        InvalidSetting, match="TUNNEL_SERVER_MY_POLICY_TOKEN: is needed by the plugin my-policy: a secret"
    ):
        load({"plugins_dir": str(folder)}, {}, None)


@pytest.mark.parametrize(
    ("name", "more", "complaint"),
    [
        ("my_policy", 'env="HOME"', "has a variable of its own"),
        ("http", 'x="2"', "cannot|unexpected"),
    ],
)
def test_a_plugin_may_not_take_what_is_the_servers(folder: Path, name: str, more: str, complaint: str) -> None:
    (folder / "my_policy.py").unlink()
    (folder / f"{name}.py").write_text(ONE.replace('help="how many"', f'help="how many", {more}'))

    with pytest.raises(InvalidPlugin, match=complaint):
        load({"plugins_dir": str(folder)}, {}, None)


def test_the_reference_servers_variables_reach_the_houses_plugins() -> None:
    found = load({"plugins": "private-tunnels"}, {"COOKIE_SECRETS": "a b"}, None)

    assert found.of_plugins["private-tunnels"]["cookie_secrets"]
    assert found.origins["cookie_secrets"] == "environment COOKIE_SECRETS"


def test_the_house_is_three_plugins() -> None:
    assert [plugin.name for plugin in house().plugins] == list(HOUSE)
    assert [place.name for place in chosen(places(), tuple(HOUSE))] == list(HOUSE)
    assert callable(loaded(places()[1]))


def test_a_file_is_found_by_what_pickles_by_its_name(folder: Path) -> None:
    load({"plugins_dir": str(folder)}, {}, None)

    assert "tunnel_server_plugin_my_policy" in sys.modules


def test_a_plugin_that_is_given_and_then_left_out_is_no_small_thing() -> None:
    with pytest.raises(InvalidPlugin, match="json is given as a plugin, and the setting plugins does not name it"):
        load({"plugin_modules": "json", "plugins": "accept-any-key"}, {}, None)


def test_a_secret_is_not_quoted_by_a_reader_that_does_not_know_better(folder: Path) -> None:
    (folder / "my_policy.py").write_text(ONE.replace("secret=True", "secret=True, read=int"))

    with pytest.raises(InvalidSetting) as refused:
        load({"plugins_dir": str(folder)}, {"TUNNEL_SERVER_MY_POLICY_TOKEN": "hunter2"}, None)

    assert "hunter2" not in str(refused.value)
    assert "my_policy_token: the value (environment" in str(refused.value)
