from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tunnel_server.adapters.systemd import notify
from tunnel_server.adapters.systemd.notify import Notifier

LIMIT = 10.0  # seconds


class Systemd:
    """The receiving end, as systemd has it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0"))
        self.socket.settimeout(LIMIT)

    def environ(self, **more: str) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.address, "LANG": "C"} | more

    def heard(self) -> list[str]:
        """Return the next message's lines; blocks, and with it the event loop."""
        return self.socket.recv(4096).decode().split("\n")

    async def hears(self) -> list[str]:
        """Return the next message's lines while the event loop runs."""
        self.socket.setblocking(False)
        async with asyncio.timeout(LIMIT):
            return (await asyncio.get_running_loop().sock_recv(self.socket, 4096)).decode().split("\n")


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    receiver = Systemd(str(tmp_path / "notify") if request.param == "path" else f"@{uuid.uuid4().hex}")
    with receiver.socket:
        yield receiver


def test_it_tells_of_the_start_and_of_the_stop(systemd: Systemd) -> None:
    environ = systemd.environ()

    with Notifier(environ) as notifier:
        notifier.ready("http 80")
        notifier.stopping(45.0, "soon gone")

    assert environ == {"LANG": "C"}
    assert systemd.heard() == ["READY=1", "STATUS=http 80"]
    assert systemd.heard() == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=45000000", "STATUS=soon gone"]


@pytest.mark.parametrize("pid", ["", str(os.getpid())])
async def test_the_loop_gives_signs_of_life_until_the_stop(systemd: Systemd, pid: str) -> None:
    environ = systemd.environ(WATCHDOG_USEC="200000", WATCHDOG_PID=pid)
    loop = asyncio.get_running_loop()

    with Notifier(environ) as notifier:
        notifier.ready("")
        assert (await systemd.hears())[0] == "READY=1"
        began, signs = loop.time(), [await systemd.hears() for _ in range(4)]
        took = loop.time() - began
        notifier.stopping(1.0, "")
        assert (await systemd.hears())[0] == "STOPPING=1"

    assert environ == {"LANG": "C"}
    assert signs == [["WATCHDOG=1"]] * 4
    assert took >= 0.28  # three pauses of half the time; the first sign comes at once
    systemd.socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        systemd.heard()


async def test_a_loop_that_is_stuck_gives_none(systemd: Systemd) -> None:
    with Notifier(systemd.environ(WATCHDOG_USEC="100000")) as notifier:
        notifier.ready("")
        assert [systemd.heard()[0], systemd.heard()[0]] == ["READY=1", "WATCHDOG=1"]

        systemd.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            systemd.heard()  # the loop does not run meanwhile


@pytest.mark.parametrize(("usec", "pid"), [("1000", "1"), ("0", ""), ("soon", ""), ("²", ""), ("9" * 5000, "")])
async def test_a_watchdog_of_another_or_without_time_is_none(systemd: Systemd, usec: str, pid: str) -> None:
    with Notifier(systemd.environ(WATCHDOG_USEC=usec, WATCHDOG_PID=pid)) as notifier:
        notifier.ready("")
        assert systemd.heard()[0] == "READY=1"

        systemd.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            systemd.heard()


def test_without_systemd_nothing_is_told() -> None:
    with capture_logs() as logs, Notifier({}) as notifier:
        notifier.ready("")
        notifier.stopping(1.0, "")

    assert logs == []


def nobody(folder: Path) -> str:
    return str(folder / "nobody")


def too_long(folder: Path) -> str:
    return "/" + "x" * 200


@pytest.mark.parametrize("address", [nobody, too_long, lambda _: "vsock:2:1234", lambda _: "@"])
def test_what_cannot_be_told_is_in_the_log(tmp_path: Path, address: Callable[[Path], str]) -> None:
    with capture_logs() as logs, Notifier({"NOTIFY_SOCKET": address(tmp_path)}) as notifier:
        notifier.ready("up")

    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("systemd.not-told", "warning")]


async def test_a_systemd_that_does_not_read_costs_a_short_wait_at_the_start_and_none_later(systemd: Systemd) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                other.sendto(b"x", systemd.address.replace("@", "\0"))
        environ = systemd.environ(WATCHDOG_USEC="3600000000")

        with capture_logs() as logs, Notifier(environ) as notifier:
            worked, began = time.process_time(), time.monotonic()
            notifier.ready("up")
            worked, waited = time.process_time() - worked, time.monotonic() - began

    assert [entry["message"].partition("\n")[0] for entry in logs] == ["READY=1", "WATCHDOG=1"]
    assert notify.SEND_WITHIN <= waited < 2 * notify.SEND_WITHIN  # the second message is not waited for
    assert worked < notify.SEND_WITHIN / 2  # and nobody is busy meanwhile


@pytest.mark.parametrize("microseconds", ["1", "1000"])
def test_signs_of_life_are_never_so_frequent_that_nothing_else_is_done(microseconds: str) -> None:
    assert notify._half(microseconds, "") == notify.MIN_PAUSE
