from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from certs import Pair, make_pair, shake_hands
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from rig import need, until
from structlog.testing import capture_logs

from tunnel_server.adapters.tls.certificates import (
    Certificate,
    Certificates,
    InvalidCertificate,
    ServerSideTls,
    Sources,
)
from tunnel_server.domain import client_hello
from tunnel_server.domain.metrics import CertificateMetrics

DAY = 86400.0
QUICK = 0.02  # seconds between two looks
LOOKS = 8  # enough for any change to be told

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class FakeMetrics(CertificateMetrics):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.expires: dict[str, float] = {}
        self.refused: list[str] = []

    def certificate_expires(self, source: str, not_after: float) -> None:
        self.expires[source] = not_after

    def certificate_gone(self, source: str) -> None:
        del self.expires[source]

    def certificate_refused(self, source: str) -> None:
        self.refused.append(source)


class Clock:
    """The system's time, and what a test adds; counts how often it is asked."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.asked = 0

    def __call__(self) -> float:
        self.asked += 1
        return time.time() + self.ahead


@pytest.fixture
def metrics() -> FakeMetrics:
    return FakeMetrics()


@pytest.fixture
def clock() -> Clock:
    return Clock()


Opened = Callable[..., AbstractAsyncContextManager[Certificates]]


@pytest.fixture
def opened(metrics: FakeMetrics, clock: Clock) -> Opened:
    """Return a context manager that enters certificates; keyword arguments are those of their sources."""

    @asynccontextmanager
    async def enter(*, options: dict[str, Any] | None = None, **sources: Any) -> AsyncIterator[Certificates]:
        own: dict[str, Any] = {"look_every": QUICK, "clock": clock} | (options or {})
        async with Certificates(Sources(**sources), metrics, **own) as certificates:
            yield certificates

    return enter


def client(pair: Pair, version: ssl.TLSVersion | None = None, *alpn: str) -> ssl.SSLContext:
    context = pair.client_context(*alpn)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def shake(
    certificates: Certificates, context: ssl.SSLContext, host: str | None, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLObject, ServerSideTls]:
    """Shake hands in memory, as the TLS port does, and pass a byte, with which tickets come."""
    to_client, from_client, to_server, from_server = (ssl.MemoryBIO() for _ in range(4))
    visitor = context.wrap_bio(to_client, from_client, server_hostname=host, session=session)
    with pytest.raises(ssl.SSLWantReadError):
        visitor.do_handshake()
    hello = from_client.read()
    asked = client_hello.read(hello)
    assert asked is not None
    server = certificates.begin(to_server, from_server, asked.server_name)
    assert server is not None
    to_server.write(hello)
    shake_hands(visitor, server, (from_client, to_server), (from_server, to_client))
    server.write(b"x")
    to_client.write(from_server.read())
    assert visitor.read(1) == b"x"
    return visitor, server


def got(visitor: ssl.SSLObject) -> tuple[str, ...]:
    """Return the names on the certificate that a client was shown."""
    shown = visitor.getpeercert()
    assert shown is not None
    return tuple(str(value) for _, value in shown["subjectAltName"])


def names(certificates: Certificates, name: str | None) -> tuple[str, ...]:
    chosen = certificates.choose(name)
    return () if chosen is None else chosen.names


def with_intermediate(folder: Path, name: str) -> tuple[Pair, str]:
    """Make a pair whose CA is signed by another, which is the pair's ``ca`` now; also give the one between."""
    pair = make_pair(folder, name)
    own = x509.load_pem_x509_certificate(pair.ca.read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test root")])

    def signed(subject: x509.Name, public: Any) -> bytes:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(root_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(own.not_valid_before_utc)
            .not_valid_after(own.not_valid_after_utc)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
            .public_bytes(Encoding.PEM)
        )

    root = folder / "root.pem"
    root.write_bytes(signed(root_name, key.public_key()))
    return Pair(pair.cert, pair.key, root), signed(own.subject, own.public_key()).decode()


def self_signed(folder: Path, bits: int) -> Pair:
    """Make a certificate without alternative names, as old instructions have it."""
    cert, key = folder / "cert.crt", folder / "cert.key"
    subprocess.run(
        [need("openssl"), "req", "-x509", "-newkey", f"rsa:{bits}", "-nodes", "-subj", "/CN=a.test",
         "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return Pair(cert, key, cert)


async def looks(clock: Clock, count: int = LOOKS) -> None:
    """Wait until the files were looked at ``count`` times more."""
    wanted = clock.asked + count * 3  # a look and what follows it ask at most so often
    await until(lambda: clock.asked >= wanted)


def put(source: Pair, stem: Path) -> None:
    """Lay a pair down as ``stem``.crt and ``stem``.key."""
    shutil.copy(source.cert, stem.with_suffix(".crt"))
    shutil.copy(source.key, stem.with_suffix(".key"))


def events(logs: list[Any], *wanted: str) -> list[Any]:
    return [entry for entry in logs if entry["event"] in wanted]


# choosing


async def test_a_server_name_gets_its_certificate_and_any_other_the_first(opened: Opened, tmp_path: Path) -> None:
    first = make_pair(tmp_path, "first.test")
    folder = tmp_path / "more"
    folder.mkdir()
    for number, host in enumerate(("*.b.test", "a.b.test")):
        put(make_pair(tmp_path, host, stem="next"), folder / str(number))

    async with opened(cert_file=first.cert, key_file=first.key, directory=folder) as certificates:
        shown = {
            host: got(shake(certificates, client(first), host)[0])
            for host in ("first.test", "a.b.test", "x.b.test", "a.x.b.test", "unknown.test", None)
        }

    assert shown == {
        "first.test": ("first.test",),
        "a.b.test": ("a.b.test",),
        "x.b.test": ("*.b.test",),
        "a.x.b.test": ("first.test",),
        "unknown.test": ("first.test",),
        None: ("first.test",),
    }


async def test_the_connection_knows_its_name_and_certificate(opened: Opened, tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a.test")

    async with opened(cert_file=pair.cert, key_file=pair.key) as certificates:
        named = shake(certificates, client(pair), "A.Test")[1]
        unnamed = shake(certificates, client(pair), None)[1]
        chosen = certificates.choose("a.test")

    assert (named.server_name, named.certificate) == ("a.test", chosen)
    assert (unnamed.server_name, unnamed.certificate) == (None, chosen)


@pytest.mark.parametrize("name", ["", "a" * 100_000, "\x00", "a.test\n", "mün.test", "\ud800", "..", "*.b.test"])
async def test_a_hostile_name_gets_the_default_and_is_told_to_nobody(opened: Opened, tmp_path: Path, name: str) -> None:
    pair = make_pair(tmp_path, "a.test")
    told: list[str] = []

    async with opened(cert_file=pair.cert, key_file=pair.key) as certificates:
        certificates.unknown = told.append
        tls = certificates.begin(ssl.MemoryBIO(), ssl.MemoryBIO(), name)

    assert tls is not None and tls.certificate is not None
    assert (tls.server_name, tls.certificate.names, told) == (None, ("a.test",), [])


async def test_a_name_that_no_certificate_covers_is_told(opened: Opened, tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a.test", "*.b.test")
    told: list[str] = []

    async with opened(cert_file=pair.cert, key_file=pair.key) as certificates:
        certificates.unknown = told.append
        for host in ("a.test", "x.b.test", None, "New.test"):
            shake(certificates, client(pair), host)
        certificates.choose("other.test")

    assert told == ["new.test"]


async def test_without_any_certificate_there_is_no_tls_but_names_are_told(opened: Opened) -> None:
    told: list[str] = []

    async with opened() as certificates:
        certificates.unknown = told.append

        assert certificates.begin(ssl.MemoryBIO(), ssl.MemoryBIO(), "a.test") is None
        assert certificates.begin(ssl.MemoryBIO(), ssl.MemoryBIO(), None) is None
        assert certificates.choose("a.test") is None
    assert told == ["a.test"]


async def test_a_connection_serves_hosts_of_its_certificate_and_those_that_get_it_anyway(
    opened: Opened, tmp_path: Path
) -> None:
    first = make_pair(tmp_path, "a.test", "*.a.test")
    folder = tmp_path / "more"
    folder.mkdir()
    put(make_pair(tmp_path, "b.test", "own.a.test", stem="next"), folder / "b")

    async with opened(cert_file=first.cert, key_file=first.key, directory=folder) as certificates:
        mine, other = certificates.choose("a.test"), certificates.choose("b.test")
        assert mine is not None and other is not None

        for host in ("a.test", "A.TEST.", "x.a.test", "unknown.test", "127.0.0.1", "[::1]", "", "\x00"):
            assert certificates.same(mine, host)
            assert not certificates.same(other, host)
        assert certificates.same(mine, "own.a.test") and certificates.same(other, "own.a.test")
        assert certificates.same(other, "b.test")
        assert not certificates.same(mine, "b.test")


async def test_a_connection_serves_its_hosts_also_after_a_reload(opened: Opened, tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a.test")

    async with opened(cert_file=pair.cert, key_file=pair.key) as certificates:
        old = certificates.choose(None)
        assert old is not None
        make_pair(tmp_path, "b.test")
        await until(lambda: names(certificates, None) == ("b.test",))

        assert all(certificates.same(old, host) for host in ("a.test", "b.test", "unknown.test"))


async def test_ten_thousand_handshakes_begin_at_once_with_two_hundred_certificates(
    opened: Opened, tmp_path: Path
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(200):
        put(make_pair(tmp_path, f"h{number}.test", stem="next"), folder / f"h{number:03}")

    async with opened(directory=folder) as certificates:
        one = certificates.choose("h1.test")
        assert one is not None
        began = time.process_time()
        for number in range(10_000):
            certificates.choose(f"h{number}.test")
            certificates.same(one, f"x{number}.test")
        spent = time.process_time() - began

    assert spent < 1.0


# how it is served


@pytest.mark.parametrize("rsa", [False, True], ids=["ecdsa", "rsa"])
@pytest.mark.parametrize("version", VERSIONS)
async def test_both_kinds_of_keys_are_served_in_both_versions(
    opened: Opened, tmp_path: Path, rsa: bool, version: ssl.TLSVersion
) -> None:
    pair = make_pair(tmp_path, "a.test", rsa_key=rsa)

    async with opened(cert_file=pair.cert, key_file=pair.key) as certificates:
        visitor, server = shake(certificates, client(pair, version), "a.test")

    assert visitor.version() == server.version() == version.name.replace("_", ".")
    assert got(visitor) == ("a.test",)


@pytest.mark.parametrize(
    ("offered", "selected"),
    [(("h2", "http/1.1"), "h2"), (("http/1.1",), "http/1.1"), (("ssh",), "ssh"), (("foo",), None), ((), None)],
)
async def test_the_first_protocol_that_is_known_is_spoken_and_an_unknown_one_is_none(
    opened: Opened, tmp_path: Path, offered: tuple[str, ...], selected: str | None
) -> None:
    pair = make_pair(tmp_path, "a.test")

    async with opened(cert_file=pair.cert, key_file=pair.key) as certificates:
        visitor, server = shake(certificates, client(pair, None, *offered), "a.test")

    assert visitor.selected_alpn_protocol() == server.selected_alpn_protocol() == selected


async def test_old_versions_and_weak_ciphers_are_refused(opened: Opened, tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a.test", rsa_key=True)

    async with opened(cert_file=pair.cert, key_file=pair.key) as certificates:
        for ciphers in ("AES128-GCM-SHA256", "DHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA256"):
            weak = client(pair, ssl.TLSVersion.TLSv1_2)
            weak.set_ciphers(ciphers)
            with pytest.raises(ssl.SSLError, match="NO_SHARED_CIPHER"):
                shake(certificates, weak, "a.test")
        old = client(pair)
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
            shake(certificates, old, "a.test")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("curve", "agreed"), [("X25519", True), ("prime256v1", True), ("secp384r1", True),
                                               ("X448", False), ("secp521r1", False)])  # fmt: skip
async def test_keys_are_agreed_in_the_groups_of_the_profile_only(
    opened: Opened, tmp_path: Path, version: ssl.TLSVersion, curve: str, agreed: bool
) -> None:
    pair = make_pair(tmp_path, "a.test", rsa_key=True)  # an ECDSA key has to be of a curve that the client knows
    context = client(pair, version)
    context.set_ecdh_curve(curve)

    async with opened(cert_file=pair.cert, key_file=pair.key) as certificates:
        if agreed:
            shake(certificates, context, "a.test")
        else:
            with pytest.raises(ssl.SSLError):
                shake(certificates, context, "a.test")


async def test_a_chain_is_sent_with_its_intermediate(opened: Opened, tmp_path: Path) -> None:
    pair, intermediate = with_intermediate(tmp_path, "a.test")
    leaf, key = pair.cert.read_text(), pair.key.read_text()

    async with opened(cert_text=leaf + intermediate, key_text=key) as certificates:
        assert got(shake(certificates, client(pair), "a.test")[0]) == ("a.test",)
    async with opened(cert_text=leaf, key_text=key) as certificates:
        with pytest.raises(ssl.SSLCertVerificationError):
            shake(certificates, client(pair), "a.test")


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_is_resumed_by_its_host(opened: Opened, tmp_path: Path, version: ssl.TLSVersion) -> None:
    pair = make_pair(tmp_path, "a.test", "*.a.test")
    folder = tmp_path / "more"
    folder.mkdir()
    put(make_pair(tmp_path, "b.test", stem="next"), folder / "b")

    async with opened(cert_file=pair.cert, key_file=pair.key, directory=folder) as certificates:
        for host in ("a.test", "b.test", None):
            context = client(pair, version)
            first, _ = shake(certificates, context, host)
            second, server = shake(certificates, context, host, first.session)

            assert not first.session_reused
            assert second.session_reused and server.session_reused
            assert server.server_name == host


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_is_never_resumed_under_another_certificate(
    opened: Opened, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    pair = make_pair(tmp_path, "a.test")
    folder = tmp_path / "more"
    folder.mkdir()
    put(make_pair(tmp_path, "b.test", stem="next"), folder / "b")

    async with opened(cert_file=pair.cert, key_file=pair.key, directory=folder) as certificates:
        context = client(pair, version)
        for one, other in (("a.test", "b.test"), ("b.test", "a.test"), (None, "b.test")):
            first, _ = shake(certificates, context, one)
            second, server = shake(certificates, context, other, first.session)

            assert not second.session_reused and not server.session_reused
            assert got(second) == (other,)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_ends_with_its_certificate(opened: Opened, tmp_path: Path, version: ssl.TLSVersion) -> None:
    pair = make_pair(tmp_path, "a.test")

    async with opened(cert_file=pair.cert, key_file=pair.key) as certificates:
        context = client(pair, version)
        first, _ = shake(certificates, context, "a.test")
        make_pair(tmp_path, "a.test", "new.test")
        await until(lambda: len(names(certificates, "a.test")) == 2)
        second, _ = shake(certificates, context, "a.test", first.session)

    assert not second.session_reused
    assert got(second) == ("a.test", "new.test")


async def test_secrets_are_logged_only_where_asked_for(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = make_pair(tmp_path, "a.test")
    asked = tmp_path / "asked"
    visitor = client(pair)
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "environment"))

    async with opened(cert_file=pair.cert, key_file=pair.key) as certificates:
        shake(certificates, visitor, "a.test")
    async with opened(cert_file=pair.cert, key_file=pair.key, options={"key_log": asked}) as certificates:
        assert asked.read_bytes().count(b"CLIENT_TRAFFIC_SECRET_0") == 0
        shake(certificates, visitor, "a.test")

    assert not (tmp_path / "environment").exists()
    assert asked.read_bytes().count(b"CLIENT_TRAFFIC_SECRET_0") == 1
    assert asked.stat().st_mode & 0o777 == 0o600


async def test_a_key_log_that_cannot_be_written_is_named(opened: Opened, tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a.test")

    with pytest.raises(InvalidCertificate, match=f"key log {tmp_path}: Is a directory"):
        async with opened(cert_file=pair.cert, key_file=pair.key, options={"key_log": tmp_path}):
            pass


# what cannot be used at the start


def encrypted(pair: Pair, form: PrivateFormat) -> bytes:
    key = load_pem_private_key(pair.key.read_bytes(), None)
    return key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret"))


@pytest.mark.parametrize(
    ("spoil", "named", "reason"),
    [
        (lambda pair, other: pair.cert.unlink(), "cert.crt", "No such file"),
        (lambda pair, other: pair.key.unlink(), "cert.key", "No such file"),
        (lambda pair, other: (pair.key.unlink(), pair.key.mkdir()), "cert.key", "directory|not a file"),
        (lambda pair, other: (pair.cert.unlink(), os.mkfifo(pair.cert)), "cert.crt", "not a file"),
        (lambda pair, other: pair.cert.write_bytes(b""), "cert.crt", "no certificate"),
        (lambda pair, other: pair.cert.write_bytes(b"\x30\x82\xff\x00" * 9), "cert.crt", "no certificate"),
        (lambda pair, other: pair.cert.write_bytes(b"-----BEGIN CERTIFICATE-----\n"), "cert.crt", "cut off"),
        (lambda pair, other: pair.cert.write_bytes(pair.cert.read_bytes() + other.cert.read_bytes()[:300]),
         "cert.crt", "cut off"),
        (lambda pair, other: pair.key.write_bytes(pair.key.read_bytes()[:60]), "cert.key", "cut off"),
        (lambda pair, other: pair.cert.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"),
         "cert.crt", "malformed"),
        (lambda pair, other: pair.cert.write_bytes(pair.key.read_bytes()), "cert.crt", "no certificate"),
        (lambda pair, other: pair.key.write_bytes(pair.cert.read_bytes()), "cert.key", "no private key"),
        (lambda pair, other: pair.key.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"),
         "cert.key", "malformed"),
        (lambda pair, other: pair.key.write_bytes(encrypted(pair, PrivateFormat.PKCS8)), "cert.key", "encrypted"),
        (lambda pair, other: pair.key.write_bytes(encrypted(pair, PrivateFormat.TraditionalOpenSSL)), "cert.key",
         "encrypted"),
        (lambda pair, other: pair.key.write_bytes(other.key.read_bytes()), "cert.key", "not that of"),
        (lambda pair, other: pair.cert.write_bytes(other.cert.read_bytes() + pair.cert.read_bytes()), "cert.crt",
         "has to be the first"),
        (lambda pair, other: pair.cert.write_bytes(pair.cert.read_bytes() * 17), "cert.crt", "more than 16"),
        (lambda pair, other: pair.cert.write_bytes(b"#" * (1 << 20) + pair.cert.read_bytes()), "cert.crt", "larger"),
    ],
)  # fmt: skip
async def test_what_cannot_be_used_is_named_at_the_start(
    opened: Opened, tmp_path: Path, spoil: Callable[[Pair, Pair], Any], named: str, reason: str
) -> None:
    other = make_pair(tmp_path, "other.test", stem="other")
    pair = make_pair(tmp_path, "a.test")
    spoil(pair, other)

    with pytest.raises(InvalidCertificate, match=f"{named}.*({reason})") as caught:
        async with opened(cert_file=pair.cert, key_file=pair.key):
            pass

    assert caught.value.code == "settings.certificate"


async def test_a_key_too_small_for_tls_is_named(opened: Opened, tmp_path: Path) -> None:
    pair = self_signed(tmp_path, bits=1024)

    with pytest.raises(InvalidCertificate, match=r"cert\.crt.*TOO_SMALL"):
        async with opened(cert_file=pair.cert, key_file=pair.key):
            pass


async def test_half_of_a_pair_in_the_settings_is_refused(opened: Opened, tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a.test")

    for half, lacking in (({"cert_file": pair.cert}, "TLS_KEY_FILE"), ({"key_text": pair.key.read_text()}, "TLS_CERT")):
        with pytest.raises(InvalidCertificate, match=lacking):
            async with opened(**half):
                pass


async def test_texts_that_cannot_be_used_are_named_by_their_setting(opened: Opened, tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a.test")

    with pytest.raises(InvalidCertificate, match=r"^TLS_CERT: .*no certificate"):
        async with opened(cert_text="\ud800", key_text=pair.key.read_text()):
            pass
    with pytest.raises(InvalidCertificate, match=r"^TLS_KEY: .*no private key") as caught:
        async with opened(cert_file=pair.cert, key_text="secret"):
            pass
    assert "secret" not in str(caught.value)


async def test_in_a_folder_a_certificate_without_its_key_is_an_error_at_the_start(
    opened: Opened, tmp_path: Path
) -> None:
    folder = tmp_path / "certs"
    folder.mkdir()
    put(make_pair(tmp_path, "a.test"), folder / "a")
    (folder / "a.key").unlink()

    with pytest.raises(InvalidCertificate, match=r"a\.key"):
        async with opened(directory=folder):
            pass
    with pytest.raises(InvalidCertificate, match="absent"):
        async with opened(directory=tmp_path / "absent"):
            pass


async def test_in_a_folder_what_is_no_pair_does_not_matter(
    opened: Opened, tmp_path: Path, metrics: FakeMetrics
) -> None:
    folder = tmp_path / "certs"
    folder.mkdir()
    put(make_pair(tmp_path, "a.test"), folder / "tls")
    shutil.copy(tmp_path / "ca.pem", folder / "ca.crt")
    (folder / "README").write_text("hello")
    (folder / ".hidden.crt").write_text("garbage")
    shutil.copy(tmp_path / "cert.key", folder / "stray.key")

    async with opened(directory=folder) as certificates:
        assert names(certificates, None) == ("a.test",)
        await until(lambda: metrics.refused)

    assert metrics.refused == [str(folder / "stray.crt")]


async def test_text_around_the_blocks_does_not_matter(opened: Opened, tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a.test")
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    noise = b"\xef\xbb\xbfBag Attributes\r\n  \x00\xff -----BEGIN\n-----BEGIN NOTHING-----\n"
    everything = noise + parameters + pair.key.read_bytes() + noise + pair.cert.read_bytes() + noise
    pair.cert.write_bytes(everything.replace(b"\n", b"\r\n"))

    async with opened(cert_file=pair.cert, key_file=pair.cert) as certificates:
        assert got(shake(certificates, client(pair), "a.test")[0]) == ("a.test",)


async def test_reading_a_crafted_file_takes_no_time(opened: Opened, tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a.test")
    pair.cert.write_bytes((b"-----BEGIN A-----" * (1 << 16))[: 1 << 20])
    began = time.process_time()

    with pytest.raises(InvalidCertificate, match="no certificate"):
        async with opened(cert_file=pair.cert, key_file=pair.key):
            pass

    assert time.process_time() - began < 1.0


async def test_a_certificate_without_names_is_the_default_only(opened: Opened, tmp_path: Path) -> None:
    pair = self_signed(tmp_path, bits=2048)
    told: list[str] = []

    async with opened(cert_file=pair.cert, key_file=pair.key) as certificates:
        certificates.unknown = told.append
        tls = certificates.begin(ssl.MemoryBIO(), ssl.MemoryBIO(), "a.test")

    assert tls is not None and tls.certificate is not None
    assert (tls.certificate.names, told) == ((), ["a.test"])


# its life


@pytest.mark.parametrize(
    ("since", "days", "event", "level"),
    [
        (-30, -1, "certificate.expired", "error"),
        (-1, 13, "certificate.expires-soon", "warning"),
        (1, 30, "certificate.not-yet-valid", "warning"),
        (-1, 15, None, None),
    ],
)
async def test_a_certificate_outside_its_time_is_served_and_told(
    opened: Opened,
    tmp_path: Path,
    metrics: FakeMetrics,
    since: float,
    days: float,
    event: str | None,
    level: str | None,
) -> None:
    pair = make_pair(tmp_path, "a.test", since=since, days=days)
    trusting = client(pair)
    trusting.verify_mode = ssl.CERT_NONE

    with capture_logs() as logs:
        async with opened(cert_file=pair.cert, key_file=pair.key) as certificates:
            shake(certificates, trusting, "a.test")

    told = [(entry["event"], entry["log_level"]) for entry in logs if entry["event"] != "certificate.loaded"]
    assert told == ([(event, level)] if event else [])
    assert metrics.expires[str(pair.cert)] == pytest.approx(time.time() + days * DAY, abs=60)


async def test_the_end_is_told_once_a_day(opened: Opened, tmp_path: Path, clock: Clock) -> None:
    pair = make_pair(tmp_path, "a.test", days=20)

    with capture_logs() as logs:
        async with opened(cert_file=pair.cert, key_file=pair.key):
            for day in (1.01, 7.02, 8.03, 21.0):
                clock.ahead = day * DAY
                await looks(clock)

    told = [entry["event"] for entry in events(logs, "certificate.expires-soon", "certificate.expired")]
    assert told == ["certificate.expires-soon", "certificate.expires-soon", "certificate.expired"]


async def test_a_certificate_takes_over_when_its_time_begins(opened: Opened, tmp_path: Path, clock: Clock) -> None:
    now = make_pair(tmp_path, "a.test", stem="now")
    folder = tmp_path / "more"
    folder.mkdir()
    put(make_pair(tmp_path, "a.test", "next.test", stem="next", since=5, days=90), folder / "next")

    async with opened(cert_file=now.cert, key_file=now.key, directory=folder) as certificates:
        assert names(certificates, "a.test") == ("a.test",)
        clock.ahead = 6 * DAY
        await until(lambda: names(certificates, "a.test") == ("a.test", "next.test"))


# changes of the files


async def test_a_new_pair_is_served_and_the_connections_there_are_go_on(
    opened: Opened, tmp_path: Path, metrics: FakeMetrics
) -> None:
    pair = make_pair(tmp_path, "a.test")

    with capture_logs() as logs:
        async with opened(cert_file=pair.cert, key_file=pair.key) as certificates:
            visitor, server = shake(certificates, client(pair), "a.test")
            old = server.certificate
            make_pair(tmp_path, "a.test", "b.test", days=60)
            await until(lambda: len(names(certificates, "a.test")) == 2)

            assert got(shake(certificates, client(pair), "a.test")[0]) == ("a.test", "b.test")
            assert server.certificate is old and got(visitor) == ("a.test",)

    loaded, reloaded = events(logs, "certificate.loaded", "certificate.reloaded")
    assert (loaded["event"], loaded["names"]) == ("certificate.loaded", "a.test")
    assert (reloaded["event"], reloaded["names"]) == ("certificate.reloaded", "a.test, b.test")
    assert metrics.refused == []
    assert metrics.expires[str(pair.cert)] == pytest.approx(time.time() + 60 * DAY, abs=60)


async def test_a_certificate_laid_down_before_its_key_waits_for_it(
    opened: Opened, tmp_path: Path, metrics: FakeMetrics, clock: Clock
) -> None:
    pair = make_pair(tmp_path, "a.test")
    fresh = make_pair(tmp_path, "a.test", "b.test", stem="fresh")

    async with opened(cert_file=pair.cert, key_file=pair.key) as certificates:
        shutil.copy(fresh.cert, pair.cert)
        await until(lambda: metrics.refused)
        assert got(shake(certificates, client(pair), "a.test")[0]) == ("a.test",)

        shutil.copy(fresh.key, pair.key)
        await until(lambda: len(names(certificates, "a.test")) == 2)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda pair: pair.cert.write_bytes(b"garbage"),
        lambda pair: pair.key.write_bytes(b""),
        lambda pair: pair.cert.unlink(),
        lambda pair: (pair.cert.unlink(), pair.cert.mkdir()),
        lambda pair: (pair.key.unlink(), pair.key.symlink_to(pair.key)),
    ],
)
async def test_a_broken_pair_is_refused_once_and_the_old_one_stays(
    opened: Opened, tmp_path: Path, metrics: FakeMetrics, clock: Clock, spoil: Callable[[Pair], Any]
) -> None:
    pair = make_pair(tmp_path, "a.test")

    with capture_logs() as logs:
        async with opened(cert_file=pair.cert, key_file=pair.key) as certificates:
            spoil(pair)
            await until(lambda: metrics.refused)
            await looks(clock)
            assert names(certificates, "a.test") == ("a.test",)
            shake(certificates, client(pair), "a.test")

    (refused,) = events(logs, "certificate.refused")
    assert (refused["source"], refused["log_level"]) == (str(pair.cert), "error")
    assert str(tmp_path / "cert.") in refused["reason"]
    assert metrics.refused == [str(pair.cert)]


async def test_each_broken_state_is_told_and_the_way_back_is_quiet(
    opened: Opened, tmp_path: Path, metrics: FakeMetrics, clock: Clock
) -> None:
    pair = make_pair(tmp_path, "a.test")
    good = pair.cert.read_bytes()

    with capture_logs() as logs:
        async with opened(cert_file=pair.cert, key_file=pair.key) as certificates:
            before = certificates.choose(None)
            for count, broken in enumerate((b"one", b"two"), 1):
                pair.cert.write_bytes(broken)
                await until(lambda count=count: len(metrics.refused) == count)
            pair.cert.write_bytes(good)
            await looks(clock)
            assert certificates.choose(None) is before

    assert [entry["event"] for entry in logs] == ["certificate.loaded", "certificate.refused", "certificate.refused"]


async def test_a_file_only_touched_is_not_loaded_again(opened: Opened, tmp_path: Path, clock: Clock) -> None:
    pair = make_pair(tmp_path, "a.test")

    with capture_logs() as logs:
        async with opened(cert_file=pair.cert, key_file=pair.key):
            await looks(clock)
            os.utime(pair.cert)
            await looks(clock)

    assert [entry["event"] for entry in logs] == ["certificate.loaded"]


async def test_a_change_that_the_times_do_not_show_is_found(opened: Opened, tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a.test")
    other = make_pair(tmp_path, "b.test", stem="other")
    text = pair.cert.read_bytes() + b"#" * 200
    pair.cert.write_bytes(text)
    new = other.cert.read_bytes()
    new += b"#" * (len(text) - len(new))

    async with opened(cert_file=pair.cert, key_file=pair.key) as certificates:
        state = pair.cert.stat()
        pair.cert.write_bytes(new)
        pair.key.write_bytes(other.key.read_bytes())
        os.utime(pair.cert, ns=(state.st_atime_ns, state.st_mtime_ns))

        await until(lambda: names(certificates, "b.test") == ("b.test",))


async def test_files_that_do_not_change_are_not_read_again(
    opened: Opened, tmp_path: Path, clock: Clock, metrics: FakeMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = make_pair(tmp_path, "a.test")

    async with opened(cert_file=pair.cert, key_file=pair.key):
        clock.ahead = 60.0
        await looks(clock)
        monkeypatch.setattr("tunnel_server.adapters.tls.pairs.MAX_SIZE", 0)  # any reading is refused from now on
        await looks(clock)
        assert metrics.refused == []

        os.utime(pair.cert)
        await until(lambda: metrics.refused)


async def test_a_link_that_leads_elsewhere_is_followed(opened: Opened, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        put(make_pair(tmp_path, f"{name}.test"), tmp_path / name / "tls")
    link = tmp_path / "live"
    link.symlink_to("one")

    async with opened(cert_file=link / "tls.crt", key_file=link / "tls.key") as certificates:
        assert names(certificates, None) == ("one.test",)
        fresh = tmp_path / "live.new"
        fresh.symlink_to("two")
        fresh.replace(link)

        await until(lambda: names(certificates, None) == ("two.test",))


@pytest.mark.parametrize("mounted", ["files", "folder"])
async def test_a_kubernetes_secret_that_is_mounted_anew_is_followed(
    opened: Opened, tmp_path: Path, metrics: FakeMetrics, mounted: str
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()

    def mount(stamp: str, name: str) -> None:
        """Write as the kubelet does: a folder of its own, then ``..data`` is swapped, then the old folder goes."""
        old = (volume / "..data").resolve()
        (volume / stamp).mkdir()
        put(make_pair(tmp_path, name), volume / stamp / "tls")
        shutil.copy(tmp_path / "ca.pem", volume / stamp / "ca.crt")
        (volume / "..data_tmp").symlink_to(stamp)
        (volume / "..data_tmp").replace(volume / "..data")
        if old.name != "..data":
            shutil.rmtree(old)

    mount("..2026_01_01", "one.test")
    for file in ("tls.crt", "tls.key", "ca.crt"):
        (volume / file).symlink_to(f"..data/{file}")
    files = {"cert_file": volume / "tls.crt", "key_file": volume / "tls.key"}

    async with opened(**(files if mounted == "files" else {"directory": volume})) as certificates:
        assert names(certificates, None) == ("one.test",)
        for number in range(3):
            mount(f"..2026_01_02.{number}", f"n{number}.test")
            await until(lambda number=number: names(certificates, None) == (f"n{number}.test",), limit=5)

    assert metrics.refused == []


async def test_pairs_come_to_a_folder_and_go(
    opened: Opened, tmp_path: Path, metrics: FakeMetrics, clock: Clock
) -> None:
    folder = tmp_path / "certs"
    folder.mkdir()
    put(make_pair(tmp_path, "a.test"), folder / "a")

    with capture_logs() as logs:
        async with opened(directory=folder) as certificates:
            put(make_pair(tmp_path, "b.test"), folder / "b")
            await until(lambda: names(certificates, "b.test") == ("b.test",))
            (folder / "a.crt").unlink()
            (folder / "a.key").unlink()
            await until(lambda: names(certificates, "a.test") == ("b.test",))
            assert set(metrics.expires) == {str(folder / "b.crt")}

            (folder / "b.crt").unlink()
            (folder / "b.key").unlink()
            await looks(clock)
            assert names(certificates, "b.test") == ("b.test",)  # the last stays

            put(make_pair(tmp_path, "c.test"), folder / "c")
            await until(lambda: names(certificates, "b.test") == ("c.test",))

    assert [entry["source"] for entry in events(logs, "certificate.gone")] == [
        str(folder / "a.crt"),
        str(folder / "b.crt"),
    ]
    assert set(metrics.expires) == {str(folder / "c.crt")}


async def test_the_last_pair_that_went_and_came_back_stays_beside_others(
    opened: Opened, tmp_path: Path, clock: Clock
) -> None:
    folder = tmp_path / "certs"
    folder.mkdir()
    pair = make_pair(tmp_path, "a.test")
    put(pair, folder / "a")

    with capture_logs() as logs:
        async with opened(directory=folder) as certificates:
            before = certificates.choose(None)
            (folder / "a.crt").unlink()
            (folder / "a.key").unlink()
            await looks(clock)
            put(pair, folder / "a")
            await until(lambda: certificates.choose(None) is not before)
            put(make_pair(tmp_path, "b.test"), folder / "b")
            await until(lambda: names(certificates, "b.test") == ("b.test",))

            assert names(certificates, "a.test") == ("a.test",)
    assert events(logs, "certificate.gone") == []


async def test_a_folder_may_begin_empty_and_be_away_for_a_while(
    opened: Opened, tmp_path: Path, metrics: FakeMetrics
) -> None:
    folder = tmp_path / "certs"
    folder.mkdir()

    async with opened(directory=folder) as certificates:
        put(make_pair(tmp_path, "a.test"), folder / "a")
        await until(lambda: names(certificates, None) == ("a.test",))
        folder.rename(tmp_path / "away")
        await until(lambda: metrics.refused == [str(folder)])
        assert names(certificates, None) == ("a.test",)

        put(make_pair(tmp_path, "b.test"), tmp_path / "away" / "b")
        (tmp_path / "away").rename(folder)
        await until(lambda: names(certificates, "b.test") == ("b.test",))


async def test_a_broken_pair_in_a_folder_does_not_touch_the_others(
    opened: Opened, tmp_path: Path, metrics: FakeMetrics
) -> None:
    folder = tmp_path / "certs"
    folder.mkdir()
    for name in ("a", "b"):
        put(make_pair(tmp_path, f"{name}.test"), folder / name)

    async with opened(directory=folder) as certificates:
        (folder / "a.key").write_bytes(b"garbage")
        (folder / "c.crt").write_bytes(b"garbage")
        put(make_pair(tmp_path, "b.test", "new.test"), folder / "b")
        await until(lambda: len(names(certificates, "b.test")) == 2 and len(metrics.refused) == 2)

        assert names(certificates, "a.test") == ("a.test",)
    assert set(metrics.refused) == {str(folder / "a.crt"), str(folder / "c.crt")}


async def test_handshakes_go_on_while_certificates_are_swapped(opened: Opened, tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a.test")
    context = client(pair)
    seen: set[tuple[str, ...]] = set()

    async with opened(cert_file=pair.cert, key_file=pair.key) as certificates:
        for number in range(5):
            make_pair(tmp_path, "a.test", f"n{number}.test")
            while ("a.test", f"n{number}.test") not in seen:
                seen.add(got(shake(certificates, context, "a.test")[0]))
                await asyncio.sleep(0)

    assert seen <= {("a.test",), *(("a.test", f"n{number}.test") for number in range(5))}


async def test_looking_ends_with_the_context(opened: Opened, tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a.test")
    tasks = asyncio.all_tasks()

    async with opened(cert_file=pair.cert, key_file=pair.key):
        assert asyncio.all_tasks() > tasks

    assert asyncio.all_tasks() == tasks


# certificates that do not come from files


async def test_an_installed_certificate_is_served_until_it_is_removed(
    opened: Opened, tmp_path: Path, metrics: FakeMetrics, clock: Clock
) -> None:
    pair = make_pair(tmp_path, "*.a.test")
    own = make_pair(tmp_path, "x.a.test", stem="own")
    again = make_pair(tmp_path, "x.a.test", "y.a.test", stem="again")

    async with opened(cert_file=pair.cert, key_file=pair.key) as certificates:
        certificates.install("acme:x", own.cert.read_bytes(), own.key.read_bytes())
        assert got(shake(certificates, client(pair), "x.a.test")[0]) == ("x.a.test",)
        await looks(clock)
        certificates.install("acme:x", again.cert.read_bytes(), again.key.read_bytes())
        assert names(certificates, "x.a.test") == ("x.a.test", "y.a.test")

        certificates.remove("acme:x")
        certificates.remove("acme:x")
        assert names(certificates, "x.a.test") == ("*.a.test",)

    assert set(metrics.expires) == {str(pair.cert)}


async def test_an_installed_certificate_is_the_default_where_there_is_no_other(opened: Opened, tmp_path: Path) -> None:
    own = make_pair(tmp_path, "x.test")
    pair = make_pair(tmp_path, "a.test", stem="pair")
    folder = tmp_path / "certs"
    folder.mkdir()

    async with opened(directory=folder) as certificates:
        certificates.install("acme:x", own.cert.read_bytes(), own.key.read_bytes())
        assert names(certificates, None) == ("x.test",)
        put(pair, folder / "a")
        await until(lambda: names(certificates, None) == ("a.test",))


async def test_what_cannot_be_installed_is_refused_and_the_former_stays(
    opened: Opened, tmp_path: Path, metrics: FakeMetrics
) -> None:
    own, other = make_pair(tmp_path, "x.test"), make_pair(tmp_path, "x.test", stem="other")

    async with opened() as certificates:
        certificates.install("acme:x", own.cert.read_bytes(), own.key.read_bytes())
        before = certificates.choose(None)
        with pytest.raises(InvalidCertificate, match="acme:x"):
            certificates.install("acme:x", own.cert.read_bytes(), other.key.read_bytes())

        assert certificates.choose(None) is before
    assert metrics.refused == ["acme:x"]


def test_what_is_shown_of_sources_and_certificates_holds_no_key() -> None:
    assert "secret" not in repr(Sources(cert_text="secret", key_text="secret"))
    assert "name_set" not in repr(
        Certificate((), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), 0.0, 0.0, "", "", frozenset())
    )
