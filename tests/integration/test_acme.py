"""Certificates from a real ACME server."""

from __future__ import annotations

import asyncio
import json
import ssl
import stat
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from pebble import EAB_KEY, EAB_KID, Pebble, PebbleDns, own_certificate
from rig import until
from structlog.testing import capture_logs

from tunnel_server.adapters.acme.acme import Acme
from tunnel_server.adapters.acme.options import AcmeOptions, CertificateSink
from tunnel_server.domain.issuance import DAY, IssuanceLimits
from tunnel_server.domain.metrics import AcmeMetrics

YEAR = 365 * DAY


@pytest.fixture(scope="module")
def pebble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    with Pebble(tmp_path_factory.mktemp("pebble")) as running:
        yield running


class Shelf(CertificateSink):
    """Keeps what it is given; refuses as often as told."""

    def __init__(self, refusals: int = 0) -> None:
        self.chains: dict[str, bytes] = {}
        self.installed: list[str] = []
        self._refusals = refusals

    def install(self, source: str, chain: bytes, key: bytes) -> None:
        if self._refusals:
            self._refusals -= 1
            raise ValueError("not this one")
        ssl_context(chain, key)  # or it raises: they do not belong together
        self.chains[source] = chain
        self.installed.append(source)

    def remove(self, source: str) -> None:
        self.chains.pop(source, None)


class Counts(AcmeMetrics):
    """Counts outcomes."""

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}
        self.waiting = 0

    def acme_order(self, outcome: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def acme_waiting(self, hosts: int) -> None:
        self.waiting = hosts


class Clock:
    """The time, moved at will."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


def ssl_context(chain: bytes, key: bytes, alpn: str = "http/1.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(key + chain)
        file.flush()
        context.load_cert_chain(file.name)
    context.set_alpn_protocols([alpn])
    return context


class Site:
    """An Acme with all that surrounds it, and its two ports."""

    def __init__(self, pebble: Any, folder: Path, **options: Any) -> None:
        self.pebble = pebble
        self.shelf = Shelf(options.pop("refusals", 0))
        self.counts = Counts()
        self.clock = options.pop("clock", None) or Clock()
        self.dns = options.pop("dns", None) or PebbleDns(pebble)
        self.existing: set[str] = set()
        self.asked: list[str] = []
        self.handshakes: list[str] = []
        self.silent = False
        self.folder = folder
        values = {"directory_url": pebble.directory_url, "ca_file": pebble.ca_file, "folder": folder}
        values |= {"private_ca": True, "look_every": 0.05}
        self.options = AcmeOptions(**(values | options))
        self.acme = Acme(self.options, self.shelf, self.existing.__contains__, self.counts, self.dns, self.clock)

    async def http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        self.asked.append(path)
        body = None if self.silent else self.acme.http_answer(path)
        head = "200 OK" if body is not None else "404 Not Found"
        answer = f"HTTP/1.1 {head}\r\nContent-Length: {len(body or b'')}\r\nConnection: close\r\n\r\n".encode()
        writer.write(answer + (body or b""))
        await writer.drain()
        writer.close()

    def by_name(self, sock: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> int | None:
        self.handshakes.append(name or "")
        found = self.acme.alpn_certificate(name or "") if self.acme.pending_alpn else None
        if found is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        sock.context = ssl_context(*found, alpn="acme-tls/1")
        return None

    async def tls(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()


@asynccontextmanager
async def ports(site: Site) -> AsyncIterator[None]:
    """Serve both ports that the CA looks at."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = site.by_name  # type: ignore[assignment]
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(await asyncio.start_server(site.http, "127.0.0.1", site.pebble.http_port))
        await stack.enter_async_context(
            await asyncio.start_server(site.tls, "127.0.0.1", site.pebble.tls_port, ssl=context)
        )
        yield


@asynccontextmanager
async def running(pebble: Pebble, folder: Path, **options: Any) -> AsyncIterator[Site]:
    """Run an Acme and its ports."""
    site = Site(pebble, folder, **options)
    async with ports(site), site.acme:
        yield site


def names(chain: bytes) -> list[str]:
    own = x509.load_pem_x509_certificates(chain)[0]
    return own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)


async def test_http_01_proves_a_host(pebble: Pebble, tmp_path: Path) -> None:
    async with running(pebble, tmp_path, hosts=("http.example.test",), challenges=("http-01",)) as site:
        chain = await until(lambda: site.shelf.chains.get("acme:http.example.test"))

        assert names(chain) == ["http.example.test"]
        assert len(x509.load_pem_x509_certificates(chain)) > 1
        assert site.asked and all(site.acme.http_answer(path) is None for path in site.asked)
        assert site.counts.outcomes == {"issued": 1}


async def test_tls_alpn_01_proves_a_host(pebble: Pebble, tmp_path: Path) -> None:
    async with running(pebble, tmp_path, hosts=("alpn.example.test",), challenges=("tls-alpn-01",)) as site:
        chain = await until(lambda: site.shelf.chains.get("acme:alpn.example.test"))

        assert names(chain) == ["alpn.example.test"]
        assert "alpn.example.test" in site.handshakes
        assert not site.acme.pending_alpn
        assert site.acme.alpn_certificate("alpn.example.test") is None


async def test_dns_01_proves_a_wildcard_and_the_record_is_taken_back(pebble: Pebble, tmp_path: Path) -> None:
    async with running(pebble, tmp_path, hosts=("*.dns.example.test",)) as site:
        chain = await until(lambda: site.shelf.chains.get("acme:*.dns.example.test"))

        assert names(chain) == ["*.dns.example.test"]
        assert site.dns.published == ["_acme-challenge.dns.example.test"]
        assert not site.dns.standing


async def test_a_host_that_exists_gets_a_certificate_on_demand_and_no_other(pebble: Pebble, tmp_path: Path) -> None:
    options = {"on_demand": True, "on_demand_base": "tunnels.test", "look_every": 60.0}
    async with running(pebble, tmp_path, **options) as site:
        site.existing |= {"shop.demand.test", "web-k3y.tunnels.test", "a_b.demand.test"}

        for host in ("web-k3y.tunnels.test", "a_b.demand.test", "nobody.demand.test", "Shop.Demand.test"):
            site.acme.wanted(host)
        await until(lambda: site.counts.outcomes.get("issued"))

        assert site.shelf.installed == ["acme:shop.demand.test"]
        assert site.counts.outcomes == {"issued": 1, "refused": 2}
        site.acme.wanted("shop.demand.test")
        assert site.counts.outcomes == {"issued": 1, "refused": 2}

        site.existing.add("later.demand.test")
        site.acme.wanted("later.demand.test")
        await until(lambda: "acme:later.demand.test" in site.shelf.chains)


async def test_a_certificate_is_renewed_after_two_thirds_of_its_life(pebble: Pebble, tmp_path: Path) -> None:
    async with running(pebble, tmp_path, hosts=("renew.example.test",), on_demand=True) as site:
        first = await until(lambda: site.shelf.chains.get("acme:renew.example.test"))
        own = x509.load_pem_x509_certificates(first)[0]
        life = (own.not_valid_after_utc - own.not_valid_before_utc).total_seconds()

        site.clock.ahead = life * 0.60
        site.existing.add("meanwhile.example.test")
        site.acme.wanted("meanwhile.example.test")
        await until(lambda: len(site.shelf.installed) == 2)
        assert site.shelf.chains["acme:renew.example.test"] == first

        site.clock.ahead = life * 0.73
        await until(lambda: site.shelf.installed.count("acme:renew.example.test") == 2)

        assert site.shelf.chains["acme:renew.example.test"] != first


async def test_a_restart_keeps_the_certificates_and_the_account(pebble: Pebble, tmp_path: Path) -> None:
    async with running(pebble, tmp_path, hosts=("keep.example.test",), on_demand=True) as site:
        site.existing.add("asked.example.test")
        site.acme.wanted("asked.example.test")
        await until(lambda: len(site.shelf.chains) == 2)
        chains = site.shelf.chains
    account = [(tmp_path / "account" / name).read_bytes() for name in ("key.pem", "account.json")]

    async with running(pebble, tmp_path, hosts=("keep.example.test", "more.example.test"), on_demand=True) as site:
        assert site.shelf.chains == chains
        await until(lambda: "acme:more.example.test" in site.shelf.chains)

        assert site.counts.outcomes == {"issued": 1}
        assert account == [(tmp_path / "account" / name).read_bytes() for name in ("key.pem", "account.json")]


async def test_what_is_kept_is_for_its_owner_only(pebble: Pebble, tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    async with running(pebble, folder, hosts=("*.modes.example.test",)) as site:
        await until(lambda: site.shelf.chains)

    assert (folder / "certificates" / "_.modes.example.test" / "pair.pem").exists()
    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize(
    "damaged", ["account/key.pem", "account/account.json", "certificates/hurt.example.test/pair.pem"]
)
async def test_a_damaged_file_is_set_aside_and_made_anew(pebble: Pebble, tmp_path: Path, damaged: str) -> None:
    async with running(pebble, tmp_path, hosts=("hurt.example.test",)) as site:
        await until(lambda: site.shelf.chains)
    (tmp_path / damaged).write_bytes(b"\xff{garbage")

    async with running(pebble, tmp_path, hosts=("hurt.example.test", "next.hurt.example.test")) as site:
        await until(lambda: len(site.shelf.chains) == 2)

    assert (tmp_path / (damaged + ".broken")).read_bytes() == b"\xff{garbage"
    assert (tmp_path / damaged).read_bytes() != b"\xff{garbage"


async def test_a_proof_that_fails_is_tried_again_after_a_minute_by_the_next_challenge(
    pebble: Pebble, tmp_path: Path
) -> None:
    kinds = ("http-01", "tls-alpn-01")
    async with running(pebble, tmp_path, hosts=("slow.example.test",), challenges=kinds, on_demand=True) as site:
        site.silent = True
        await until(lambda: site.counts.outcomes.get("failed"))
        asked = len(site.asked)
        site.silent = False

        site.clock.ahead = 50.0
        site.existing.add("quick.example.test")
        site.acme.wanted("quick.example.test")
        await until(lambda: "acme:quick.example.test" in site.shelf.chains)
        assert "slow.example.test" not in site.handshakes
        assert len(site.asked) > asked
        assert site.counts.outcomes == {"failed": 1, "issued": 1}

        site.clock.ahead = 140.0
        await until(lambda: "acme:slow.example.test" in site.shelf.chains)
        assert "slow.example.test" in site.handshakes


async def test_a_server_that_was_down_and_forgot_the_account_is_used_again(tmp_path: Path) -> None:
    with Pebble(tmp_path / "pebble") as pebble:
        folder = tmp_path / "acme"
        async with running(pebble, folder, hosts=("one.example.test",)) as site:
            await until(lambda: site.shelf.chains)
        account = (folder / "account" / "account.json").read_bytes()
        pebble.stop()

        async with running(pebble, folder, hosts=("one.example.test", "two.example.test")) as site:
            await until(lambda: site.counts.outcomes.get("failed"))
            pebble.start_dns()
            pebble.start()
            site.clock.ahead = 3600.0
            await until(lambda: len(site.shelf.chains) == 2)

        assert (folder / "account" / "account.json").read_bytes() != account


async def test_orders_on_demand_wait_for_the_next_hour_once_this_one_is_spent(pebble: Pebble, tmp_path: Path) -> None:
    limits = IssuanceLimits(per_hour=1)
    async with running(pebble, tmp_path, on_demand=True, limits=limits) as site:
        site.existing |= {"first.rate.test", "second.rate.test"}
        site.acme.wanted("first.rate.test")
        site.acme.wanted("second.rate.test")
        await until(lambda: site.counts.outcomes.get("issued"))
        assert site.counts.waiting == 1
        site.acme.wanted("second.rate.test")
        assert site.counts.outcomes == {"issued": 1}

        site.clock.ahead = 3700.0
        await until(lambda: len(site.shelf.chains) == 2)
        assert site.counts.waiting == 0


async def test_an_external_account_is_bound(tmp_path: Path) -> None:
    with Pebble(tmp_path / "pebble", eab=True) as pebble:
        async with running(pebble, tmp_path / "none", hosts=("eab.example.test",)) as site:
            await until(lambda: site.counts.outcomes.get("failed"))
        bound = {"eab_kid": EAB_KID, "eab_key": EAB_KEY, "email": "admin@example.test"}
        async with running(pebble, tmp_path / "bound", hosts=("eab.example.test",), **bound) as site:
            await until(lambda: site.shelf.chains)


async def test_a_certificate_that_is_refused_when_installed_is_ordered_again(pebble: Pebble, tmp_path: Path) -> None:
    async with running(pebble, tmp_path, hosts=("refused.example.test",), refusals=1) as site:
        await until(lambda: site.counts.outcomes.get("failed"))
        site.clock.ahead = 100.0
        await until(lambda: site.shelf.chains)


async def test_an_expired_certificate_of_a_host_that_is_gone_is_dropped(pebble: Pebble, tmp_path: Path) -> None:
    async with running(pebble, tmp_path, on_demand=True) as site:
        site.existing.add("gone.example.test")
        site.acme.wanted("gone.example.test")
        await until(lambda: site.shelf.chains)
        site.existing.clear()

        site.clock.ahead = 100 * YEAR
        await until(lambda: not site.shelf.chains)
        await until(lambda: not list((tmp_path / "certificates").iterdir()))


class Impostor:
    """A TLS server that is no ACME server: the test writes what it does with each connection."""

    http_port = tls_port = 0

    def __init__(self, folder: Path, handle: Callable[..., Any]) -> None:
        self._handle = handle
        self._folder = folder
        self.ca_file = folder / "ca.pem"
        self.connections = 0

    async def __aenter__(self) -> Impostor:
        self._folder.mkdir()
        own_certificate(self._folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._folder / "cert.pem", self._folder / "key.pem")
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.directory_url = f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/dir"
        return self

    async def __aexit__(self, *error: Any) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._handle(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def saying(answer: bytes) -> Callable[..., Any]:
    """Return a handler that gives one answer to whatever is asked."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    return handle


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    while not reader.at_eof():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)  # the drops, not a wait


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "acme"]


@pytest.mark.parametrize("handle", [silent, dripping])
async def test_leaving_is_quick_while_the_server_hangs_and_leaves_no_thread(
    tmp_path: Path, handle: Callable[..., Any]
) -> None:
    async with Impostor(tmp_path / "server", handle) as server:
        site = Site(server, tmp_path / "acme", hosts=("a.example.test",))
        async with site.acme:
            await until(lambda: server.connections)
            start = time.monotonic()
        assert time.monotonic() - start < 2

        await until(lambda: not workers())


@pytest.mark.parametrize("handle", [silent, dripping])
async def test_an_order_ends_at_its_time_limit_and_the_next_has_its_turn(
    tmp_path: Path, handle: Callable[..., Any]
) -> None:
    async with Impostor(tmp_path / "server", handle) as server:
        hosts = ("a.example.test", "b.example.test")
        site = Site(server, tmp_path / "acme", hosts=hosts, order_timeout=0.5)
        async with site.acme:
            await until(lambda: site.counts.outcomes.get("failed") == 2)
            assert server.connections == 2
            assert len(workers()) == 1


def answer(status: str, body: bytes, *fields: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *fields, "", ""]
    return "\r\n".join(head).encode() + body


PROBLEM = b'{"type": "urn:ietf:params:acme:error:rateLimited", "detail": "slow\\u001b[31m\\ndown %s"}' % (b"x" * 5000)


@pytest.mark.parametrize(
    ("said", "outage", "least"),
    [
        (answer("200 OK", b"<html>"), True, 60),
        (answer("200 OK", b"[]"), True, 60),
        (answer("200 OK", b"{}"), True, 60),
        (answer("200 OK", b'{"newNonce": 1, "newAccount": [], "newOrder": null}'), True, 60),
        (answer("302 Found", b"", "Location: /dir"), True, 60),
        (answer("503 Service Unavailable", b"no", "Retry-After: 7200"), True, 7200),
        (answer("500 Oh", b'{"detail": "no type"}'), True, 60),
        (answer("429 Too Many", PROBLEM, "Retry-After: 7200"), False, 7200),
        (answer("429 Too Many", PROBLEM, "Retry-After: Fri, 31 Dec 2100 23:59:59 GMT"), False, 7 * DAY),
        (answer("429 Too Many", PROBLEM, "Retry-After: -1"), False, 60),
        (b"\x00" * 100, True, 60),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000, True, 60),
    ],
)
async def test_nonsense_and_refusals_are_told_in_one_bounded_line_and_wait(
    tmp_path: Path, said: bytes, outage: bool, least: float
) -> None:
    async with Impostor(tmp_path / "server", saying(said)) as server:
        site = Site(server, tmp_path / "acme", hosts=("a.example.test",))
        with capture_logs() as lines:
            async with site.acme:
                await until(lambda: site.counts.outcomes.get("failed"))

    told = [line for line in lines if line["event"] == "acme.failed"]
    assert [(line["host"], line["outage"]) for line in told] == [("a.example.test", outage)]
    assert least - 1 <= told[0]["again"] <= least * 1.3
    assert told[0]["reason"].isprintable()
    assert len(told[0]["reason"]) < 400


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b" " * 65536)
        await writer.drain()


async def test_an_endless_answer_is_not_read_to_the_end(tmp_path: Path) -> None:
    async with Impostor(tmp_path / "server", endless) as server:
        site = Site(server, tmp_path / "acme", hosts=("a.example.test",))
        async with site.acme:
            await until(lambda: site.counts.outcomes.get("failed"))


class Rogue:
    """Answers each path with a JSON text, as an ACME server that has gone astray."""

    def __init__(self, **changes: Any) -> None:
        self.base = ""
        self.challenge = {"type": "http-01", "url": "/challenge", "status": "pending", "token": "A" * 22} | changes

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        order = {"status": "pending", "authorizations": [self.base + "/authorization"], "finalize": self.base}
        name = {"type": "dns", "value": "a.example.test"}
        authorization = {"status": "pending", "identifier": name, "challenges": [self.challenge]}
        said: dict[str, Any] = {
            "/dir": {name: f"{self.base}/{name}" for name in ("newNonce", "newAccount", "newOrder")},
            "/newOrder": order,
            "/authorization": authorization,
        }
        body = json.dumps(said.get(path, {})).encode()
        fields = ["Replay-Nonce: AAAA", f"Location: {self.base}/it", "Content-Type: application/json"]
        writer.write(answer("201 Created" if path == "/newAccount" else "200 OK", body, *fields))
        await writer.drain()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"type": "tls-alpn-01", "token": "../../" + "A" * 22}, "token"),
        ({"type": "tls-alpn-01", "token": "A" * 1000}, "token"),
        ({"type": "tls-alpn-01", "token": 7}, "token"),
        ({"type": "tls-alpn-01", "token": None}, "token"),
        ({"token": "A" * 1000}, "token"),
        ({"token": "short"}, "token"),
        ({"token": 7}, "makes no sense"),
        ({"type": "carrier-pigeon-01"}, "carrier-pigeon-01"),
        ({"url": "file:///etc/passwd"}, "file:"),
    ],
)
async def test_a_challenge_that_cannot_be_answered_safely_is_not(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    rogue = Rogue(**changes)
    async with Impostor(tmp_path / "server", rogue.handle) as server:
        rogue.base = server.directory_url.removesuffix("/dir")
        site = Site(server, tmp_path / "acme", hosts=("a.example.test",))
        with capture_logs() as lines:
            async with site.acme:
                await until(lambda: site.counts.outcomes.get("failed"))

    assert [named in line["reason"] for line in lines if line["event"] == "acme.failed"] == [True]


async def test_a_certificate_that_has_expired_when_it_comes_is_not_installed(pebble: Pebble, tmp_path: Path) -> None:
    clock = Clock()
    clock.ahead = 100 * YEAR
    async with running(pebble, tmp_path, hosts=("late.example.test",), clock=clock) as site:
        await until(lambda: site.counts.outcomes.get("failed"))

    assert not site.shelf.installed
    assert not (tmp_path / "certificates" / "late.example.test").exists()


async def test_a_server_of_another_ca_is_not_believed(pebble: Pebble, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    own_certificate(other)
    async with running(pebble, tmp_path / "acme", hosts=("a.example.test",), ca_file=other / "ca.pem") as site:
        await until(lambda: site.counts.outcomes.get("failed"))

    assert not site.shelf.chains


def test_it_runs_on_uvloop(pebble: Pebble, tmp_path: Path) -> None:
    async def main() -> None:
        async with running(pebble, tmp_path, hosts=("*.uvloop.example.test", "uvloop.example.test")) as site:
            await until(lambda: len(site.shelf.chains) == 2)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


class BrokenDns(PebbleDns):
    """Fails, or takes for ever."""

    def __init__(self, pebble: Pebble, hangs: bool) -> None:
        super().__init__(pebble)
        self._hangs = hangs
        self.publishing = self.removing = False

    async def publish(self, name: str, value: str) -> None:
        self.publishing = True
        if not self._hangs:
            raise RuntimeError("no such zone")
        await asyncio.Event().wait()

    async def remove(self, name: str, value: str) -> None:
        self.removing = True
        if self._hangs:
            await asyncio.Event().wait()


async def test_a_dns_plugin_that_fails_is_a_failure_of_the_host(pebble: Pebble, tmp_path: Path) -> None:
    site = Site(pebble, tmp_path, hosts=("*.broken.example.test",), dns=BrokenDns(pebble, hangs=False))
    async with site.acme:
        await until(lambda: site.counts.outcomes.get("failed"))
        assert site.dns.removing


async def test_a_dns_plugin_that_hangs_does_not_hold_up_leaving(pebble: Pebble, tmp_path: Path) -> None:
    site = Site(pebble, tmp_path, hosts=("*.hangs.example.test",), dns=BrokenDns(pebble, hangs=True))
    async with site.acme:
        await until(lambda: site.dns.publishing)
        start = time.monotonic()
    assert time.monotonic() - start < 2
    assert site.dns.removing
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "acme"]
