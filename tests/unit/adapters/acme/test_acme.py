"""What visitors can make the ACME side do, and what it costs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tunnel_server.adapters.acme.acme import Acme
from tunnel_server.adapters.acme.options import AcmeOptions, CertificateSink
from tunnel_server.domain.errors import InvalidSetting
from tunnel_server.domain.issuance import IssuanceLimits
from tunnel_server.domain.metrics import AcmeMetrics

URL = "https://127.0.0.1:1/dir"


class NoSink(CertificateSink):
    def install(self, source: str, chain: bytes, key: bytes) -> None:
        raise AssertionError("nothing is to be installed")

    def remove(self, source: str) -> None:
        raise AssertionError("nothing is to be removed")


class Counts(AcmeMetrics):
    def __init__(self) -> None:
        self.refused = 0
        self.waiting = 0

    def acme_order(self, outcome: str) -> None:
        assert outcome == "refused"
        self.refused += 1

    def acme_waiting(self, hosts: int) -> None:
        self.waiting = hosts


def acme(
    folder: Path, exists: Callable[[str], bool], clock: Callable[[], float] = lambda: 2e9, **options: Any
) -> tuple[Acme, Counts]:
    counts = Counts()
    settings = AcmeOptions(URL, folder, **({"on_demand": True} | options))
    return Acme(settings, NoSink(), exists, counts, clock=clock), counts


def everything(host: str) -> bool:
    return True


def test_a_flood_of_names_fills_one_queue_and_one_log_line(tmp_path: Path) -> None:
    now = 2e9
    asked, counts = acme(tmp_path, everything, lambda: now, limits=IssuanceLimits(queue=50))

    with capture_logs() as lines:
        for number in range(100_000):
            asked.wanted(f"{number}.site{number}.de")
        assert len(lines) == 1
        now += 11
        asked.wanted("one-more.de")

    assert counts.waiting == 50
    assert counts.refused == 100_000 - 50 + 1
    assert [(line["event"], line["unsaid"]) for line in lines] == [("acme.refused", 0), ("acme.refused", 99_949)]


def test_names_that_do_not_exist_leave_no_trace(tmp_path: Path) -> None:
    asked, counts = acme(tmp_path, lambda host: False)

    with capture_logs() as lines:
        for number in range(1000):
            asked.wanted(f"{number}.de")

    assert (lines, counts.waiting, counts.refused) == ([], 0, 0)


@pytest.mark.parametrize(
    "host",
    ["", ".", "a" * 100_000, "\0", "\udcff.de", "a.de\n", "١.de", "xn--99999999999.de", "*.a.de", "127.0.0.1", "ß.de"],
)
def test_a_hostile_name_neither_raises_nor_waits(tmp_path: Path, host: str) -> None:
    asked, counts = acme(tmp_path, everything)

    asked.wanted(host)

    assert counts.waiting == 0
    assert asked.alpn_certificate(host) is None
    assert asked.http_answer("/.well-known/acme-challenge/" + host) is None


def test_a_look_up_that_breaks_breaks_nothing_else(tmp_path: Path) -> None:
    def breaks(host: str) -> bool:
        raise RuntimeError("no registry")

    asked, counts = acme(tmp_path, breaks)

    with capture_logs() as lines:
        for _ in range(100):
            asked.wanted("a.de")

    assert counts.waiting == 0
    assert len(lines) == 1


@pytest.mark.parametrize("host", ["web.tunnels.de", "a.b.tunnels.de", "shop.wild.de"])
def test_what_a_wildcard_serves_is_not_ordered(tmp_path: Path, host: str) -> None:
    options = {"on_demand_base": "tunnels.de", "hosts": ("*.wild.de",)}
    settings = AcmeOptions(URL, tmp_path, on_demand=True, **options)  # type: ignore[arg-type]
    counts = Counts()
    asked = Acme(settings, NoSink(), everything, counts, dns=NoDns())

    asked.wanted(host)
    assert (counts.waiting, counts.refused) == (0, 1)

    asked.wanted("othertunnels.de")
    assert counts.waiting == 1


class NoDns:
    async def publish(self, name: str, value: str) -> None:
        raise AssertionError("nothing is to be published")

    async def remove(self, name: str, value: str) -> None:
        raise AssertionError("nothing is to be removed")


def test_nothing_is_ordered_on_demand_unless_that_is_on(tmp_path: Path) -> None:
    asked, counts = acme(tmp_path, everything, on_demand=False)

    asked.wanted("a.de")

    assert counts.waiting == 0


@pytest.mark.parametrize("options", [{"hosts": ("*.a.de",)}, {"challenges": ("dns-01",), "on_demand": False}])
def test_dns_01_needs_something_that_answers_it(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting, match="dns-01"):
        acme(tmp_path, everything, **options)


async def test_a_folder_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    asked, _ = acme(tmp_path / "file", everything)

    with pytest.raises(InvalidSetting, match="file"):
        await asked.__aenter__()


def test_entering_and_leaving_without_an_order_loads_no_acme_library(tmp_path: Path) -> None:
    script = f"""
import asyncio, sys
from pathlib import Path
from tunnel_server.adapters.acme.acme import Acme
from tunnel_server.adapters.acme.options import AcmeOptions
async def main():
    async with Acme(AcmeOptions({URL!r}, Path({str(tmp_path)!r})), None, bool, type("", (), {{"acme_waiting": print}})):
        await asyncio.sleep(0)
asyncio.run(main())
print(sorted({{"acme", "josepy", "requests", "urllib3", "OpenSSL"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)

    assert done.stdout.splitlines()[-1] == "[]"
