"""Plugins that hang, end the process or print, as doctor loads them."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

import pytest

from tunnel_server.app.doctor import loading
from tunnel_server.app.doctor.inputs import How, Inputs, read_inputs
from tunnel_server.domain.errors import InvalidSetting

FOR_EVER = "import threading\nthreading.Event().wait()\n"
STUBBORN = "import threading\nwhile True:\n    try: threading.Event().wait()\n    except {}: pass\n"
SLOW_TO_TAKE_SETTINGS = """
import threading
from tunnel_server.hookspecs import hookimpl

@hookimpl
def configure(settings):
    threading.Event().wait()
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "PLUGINS_WITHIN", 0.3)
    monkeypatch.setattr(loading, "GIVEN_UP_AFTER", 0.5)


def inputs(folder: Path, source: str = "", **environ: str) -> Inputs:
    if source:
        (folder / "slow.py").write_text(source)
    return read_inputs({}, {"TUNNEL_SERVER_PLUGINS_DIR": str(folder)} | environ, None, How())


@pytest.mark.parametrize("source", [FOR_EVER, STUBBORN.format("Exception"), SLOW_TO_TAKE_SETTINGS])
def test_a_plugin_that_hangs_is_named(tmp_path: Path, source: str) -> None:
    found = inputs(tmp_path, source, SSH_PORT="2299")

    assert "plugin slow" in found.problem and "longer than 0.3 s" in found.problem
    assert (found.plugins, found.settings.ssh_port) == ((), 2299)


def test_a_plugin_that_cannot_be_interrupted_is_given_up(tmp_path: Path) -> None:
    began = time.monotonic()
    found = inputs(tmp_path, STUBBORN.format("BaseException"))

    assert time.monotonic() - began < 10
    assert "cannot be interrupted" in found.problem


def test_a_plugin_that_ends_the_process_ends_its_own(tmp_path: Path) -> None:
    found = inputs(tmp_path, "import os\nos._exit(0)\n")

    assert "one of them may have ended it" in found.problem


def test_what_a_plugin_prints_is_no_finding(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    inputs(tmp_path, "import os\nprint('loading')\nos.system('echo loading')\n1/0\n")

    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.count("loading") == 2


def test_plugins_are_loaded_once_with_their_settings_and_nothing_is_left(tmp_path: Path) -> None:
    found = inputs(tmp_path, COOKIE_SECRETS="0123456789abcdef0123456789abcdef")

    assert {"accept-any-key", "private-tunnels"} <= set(found.plugins)
    assert {"authenticate_client", "configure"} <= found.hooks
    assert found.cookie_secrets == 1
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_what_a_plugin_starts_ends_with_it(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    start = f"import subprocess\nsubprocess.Popen(['sleep', '60'], pass_fds=[{writing}])\n1/0\n"

    inputs(tmp_path, start)
    os.close(writing)

    assert select.select([reading], [], [], 10)[0], "somebody may still write"
    os.close(reading)


def test_a_setting_that_is_wrong_is_an_error_as_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="TUNNEL_SERVER_SSHPORT"):
        inputs(tmp_path, TUNNEL_SERVER_SSHPORT="1")
