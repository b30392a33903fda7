from __future__ import annotations

import asyncio
import json
import os
import re
import time
from pathlib import Path

import pytest

from tunnel_server.app.doctor import examination, patient, report
from tunnel_server.app.doctor.examination import CHECKS, examine
from tunnel_server.app.doctor.inside import check_host_key
from tunnel_server.app.doctor.patient import How, Patient, admit
from tunnel_server.app.doctor.surroundings import Surroundings
from tunnel_server.domain.diagnosis.finding import Finding, Verdict, ok, skipped, warning
from tunnel_server.domain.errors import InvalidSetting

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "doctor.md"
QUIET = {
    "PORT": "0",
    "SSH_PORT": "0",
    "METRICS_PORT": "0",
    "BASE_URL": "http://localhost:3000",
    "TUNNEL_SERVER_LISTEN_HOST": "127.0.0.1",
}


def admitted(**environ: str) -> Patient:
    return admit({}, QUIET | environ, None, How(0.5, ("127.0.0.1", 1)))


def test_the_page_has_each_check_and_no_other() -> None:
    assert re.findall(r"^\| `([a-z ]+)` \|", PAGE.read_text(), re.MULTILINE) == list(CHECKS)


async def test_a_check_that_fails_or_hangs_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(around: Surroundings) -> Finding:
        raise KeyError("x")

    async def hang(around: Surroundings) -> Finding:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setitem(CHECKS, "plugins", fail)
    monkeypatch.setitem(CHECKS, "sessions", hang)
    monkeypatch.setattr(examination, "LOOKS", 1)

    found = await examine(admitted())

    assert "KeyError" in found["plugins"].found
    assert found["sessions"].verdict is Verdict.FAILED
    assert "--timeout" in found["sessions"].fix
    assert found["dns base"].verdict is Verdict.SKIPPED
    assert list(found) == list(CHECKS)


def test_a_plugin_that_hangs_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(patient, "PLUGINS_WITHIN", 0.3)
    (tmp_path / "slow.py").write_text("import threading\nthreading.Event().wait()\n")

    began = time.monotonic()
    found = admitted(TUNNEL_SERVER_PLUGINS_DIR=str(tmp_path), SSH_PORT="2299")

    assert time.monotonic() - began < 10
    assert found.hooks is None
    assert "slow" in found.problem and "longer than 0.3 s" in found.problem
    assert found.settings.ssh_port == 2299


def test_without_plugins_the_default_base_url_is_as_ever(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("1/0\n")

    found = admitted(TUNNEL_SERVER_PLUGINS_DIR=str(tmp_path), BASE_URL="", PORT="3001")

    assert found.base.root_url == "http://localhost:3001/"


def test_nobody_who_may_log_in_is_warned_of() -> None:
    found = admitted(TUNNEL_SERVER_PLUGINS="reserved-names")

    assert found.hooks is not None
    assert not found.hooks.of("authenticate_client")


@pytest.mark.parametrize(
    ("limit", "server"), [("0", ""), ("x", ""), ("1h", ""), ("5s", "a/b"), ("5s", "a:99999"), ("5s", ":1")]
)
def test_flags_that_mean_nothing_are_refused(limit: str, server: str) -> None:
    with pytest.raises(InvalidSetting):
        How.of(limit, server)


@pytest.mark.parametrize(
    ("server", "place"),
    [("a.test", ("a.test", 123)), ("a.test:99", ("a.test", 99)), ("[::1]:9", ("::1", 9)), ("[::1]", ("::1", 123))],
)
def test_a_time_server_may_have_a_port(server: str, place: tuple[str, int]) -> None:
    assert How.of("5s", server).time_server == place


async def host_key(**environ: str) -> Finding:
    return await check_host_key(Surroundings(admitted(**environ)))


async def test_a_host_key_that_all_may_read_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(_key())
    path.chmod(0o604)

    open_to_all = await host_key(SSH_HOST_KEY_PATH=str(path))
    path.chmod(0o440)
    to_its_group = await host_key(SSH_HOST_KEY_PATH=str(path))

    assert "every user may read it" in open_to_all.found or "lost" in open_to_all.found
    assert open_to_all.verdict is Verdict.WARNING
    assert "every user may read it" not in to_its_group.found


async def test_a_host_key_that_cannot_be_read_made_or_waited_for_fails(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("x")

    waited = await host_key(SSH_HOST_KEY_PATH=str(tmp_path / "pipe"))
    os.close(os.open(tmp_path / "pipe", os.O_WRONLY))  # lets go of the thread that still waits

    assert "within 0.5 s" in waited.found
    assert (await host_key(SSH_HOST_KEY_PATH=str(tmp_path / "file"))).verdict is Verdict.FAILED
    assert (await host_key(SSH_HOST_KEY_PATH=str(tmp_path / "file" / "below"))).verdict is Verdict.FAILED
    assert (await host_key(SSH_HOST_KEY="bm8=")).verdict is Verdict.FAILED


def _key() -> bytes:
    import asyncssh

    return asyncssh.generate_private_key("ssh-ed25519").export_private_key()


def test_the_report_is_one_line_each_whatever_was_found() -> None:
    found = {"a": ok("fine"), "b": warning("bad\n\x1b[2J" + "y" * 900, "mend it"), "c": skipped("no")}

    lines = report.as_text(found).splitlines()

    assert lines[0] == "ok      a                  fine"
    assert lines[1].startswith("warning b                  bad\\n\\x1b[2Jyyy") and lines[1].endswith("y" * 500)
    assert lines[2:] == ["        fix: mend it", "skipped c                  no", "1 ok, 1 warning, 1 skipped"]
    assert json.loads(report.as_json(found))[0] == {"check": "a", "verdict": "ok", "found": "fine", "fix": ""}
    assert "\x1b" not in report.as_json(found)
