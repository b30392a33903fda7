from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest

from tunnel_server.adapters.checkup import clock, web
from tunnel_server.adapters.checkup.trouble import trouble_of
from tunnel_server.app.doctor import checks, report
from tunnel_server.app.doctor.checks import CHECKS, run_checks
from tunnel_server.app.doctor.inputs import TIME_SERVER, How, Inputs, read_inputs
from tunnel_server.app.doctor.inside import check_clock, check_host_key
from tunnel_server.app.doctor.surroundings import Surroundings, described
from tunnel_server.app.doctor.trusted import check_list_of_cas
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


SOON = How(0.5, ("127.0.0.1", 1), always=True)


def inputs(how: How = SOON, **environ: str) -> Inputs:
    return read_inputs({}, QUIET | environ, None, how)


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
    monkeypatch.setattr(checks, "LOOKS", 1)

    found = await run_checks(inputs())

    assert "KeyError" in found["plugins"].found
    assert found["sessions"].verdict is Verdict.FAILED
    assert "--timeout" in found["sessions"].fix
    assert found["dns base"].verdict is Verdict.SKIPPED
    assert list(found) == list(CHECKS)


def test_without_plugins_the_default_base_url_is_as_ever(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("1/0\n")

    found = inputs(TUNNEL_SERVER_PLUGINS_DIR=str(tmp_path), BASE_URL="", PORT="3001")

    assert found.base.root_url == "http://localhost:3001/"


def test_nobody_who_may_log_in_is_warned_of() -> None:
    assert "authenticate_client" not in inputs(TUNNEL_SERVER_PLUGINS="reserved-names").hooks
    assert "authenticate_client" in inputs(TUNNEL_SERVER_PLUGINS="accept-any-key").hooks


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
    assert How.of("5s", server) == How(5, place, always=True)


async def test_a_time_server_is_asked_where_the_kernel_gives_no_word_or_always_or_never(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    async def offset(address: str, port: int, limit: float) -> float:
        asked.append((address, port))
        return 0.0

    async def found(word: bool | None, how: How) -> Finding:
        monkeypatch.setattr(clock, "kept_by_kernel", lambda: word)
        return await check_clock(Surroundings(inputs(how)))

    monkeypatch.setattr(clock, "offset", offset)
    never, always, otherwise = (How.of("5s", given) for given in ("none", "127.0.0.2:9", ""))

    assert (never.time_server, otherwise.time_server) == (None, TIME_SERVER)
    assert "no time server is to be asked" in (await found(None, never)).found
    assert "no time server is to be asked" in (await found(False, never)).found
    assert (await found(True, otherwise)).found == "the kernel says that it is kept"
    assert asked == []
    assert "127.0.0.2" in (await found(True, always)).found
    assert "127.0.0.3" in (await found(None, How(5, ("127.0.0.3", 9)))).found
    assert asked == [("127.0.0.2", 9), ("127.0.0.3", 9)]


async def host_key(**environ: str) -> Finding:
    return await check_host_key(Surroundings(inputs(**environ)))


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


async def test_a_host_key_that_cannot_be_read_or_made_fails(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("x")

    assert "it is no file" in (await host_key(SSH_HOST_KEY_PATH=str(tmp_path / "pipe"))).found
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


def test_nobody_can_fill_the_report() -> None:
    found = {"a": warning("é" * 770_000, "mend it")}
    answer = web.Answer(302, {"server": "x" * 64_000, "location": "y" * 64_000}, b"")

    assert json.loads(report.as_json(found))[0]["found"] == "é" * report.MAX_TEXT + "…"
    assert report.as_text(found).splitlines()[0].endswith("é…")
    assert described(answer) == f"status 302 from {'x' * 200}… to {'y' * 200}…"
    assert trouble_of(ValueError("z" * 9000), 1).text == "z" * 200 + "…"


class Nobody(ThreadPoolExecutor):
    """An executor whose work the end of a process would wait for, and so has none."""

    def submit(self, *work: Any, **more: Any) -> Any:
        raise AssertionError("in a thread that is waited for")


@pytest.mark.parametrize("host", ["\udcff\udcfe", "a..b", "\x9b31m", "x" * 10_000, "localhost", "::1", gethostname()])
async def test_whatever_it_is_to_listen_on_no_check_fails_by_itself_or_waits(host: str) -> None:
    asyncio.get_running_loop().set_default_executor(Nobody())
    listening = {"TUNNEL_SERVER_LISTEN_HOST": host, "TUNNEL_SERVER_METRICS_HOST": host}

    found = await run_checks(inputs(**listening, PORT="1", METRICS_PORT="1"))

    assert {check: each.found for check, each in found.items() if "check itself" in each.found} == {}
    nowhere = host in ("\udcff\udcfe", "a..b", "\x9b31m", "x" * 10_000)
    for check in ("port http", "port metrics"):
        assert ("no address to listen on" in found[check].found) == nowhere
        assert "something answers" not in found[check].found


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have a pipe that nobody writes to in the place of the list of CAs, in a folder that is one, too."""
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "pipe"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    yield tmp_path / "pipe"
    os.close(os.open(tmp_path / "pipe", os.O_RDWR | os.O_NONBLOCK))  # lets go of the thread that still waits


async def test_a_list_of_cas_that_cannot_be_read_holds_up_nobody(pipe: Path) -> None:
    ca = {"TUNNEL_SERVER_ACME": "https://127.0.0.1:1/", "TUNNEL_SERVER_ACME_PRIVATE_CA": "true"}
    asked = inputs(**ca, TUNNEL_SERVER_ACME_HOSTS="a.test", TUNNEL_SERVER_ACME_FOLDER=str(pipe.parent))

    async with asyncio.timeout(10):
        found = await run_checks(asked)

    assert "the list of CAs cannot be read within 0.5 s (see SSL_CERT_FILE)" in found["acme"].found


def test_a_list_of_cas_that_is_no_file_is_refused_before_it_is_read(pipe: Path) -> None:
    script = (
        "import os, sys\nfrom tunnel_server.app.doctor.trusted import check_list_of_cas\n"
        "try: check_list_of_cas(os.environ)\nexcept Exception as error: print(error)\nprint('ssl' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20)

    assert done.stdout.startswith(f"SSL_CERT_FILE: '{pipe}' is no file;") and done.stdout.endswith("False\n")
    for harmless in ("", str(pipe.parent / "missing"), __file__, "x" * 9000, "a\0b"):
        check_list_of_cas({"SSL_CERT_FILE": harmless})
