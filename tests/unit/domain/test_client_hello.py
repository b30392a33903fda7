"""ClientHellos as Python's ssl writes them, and others written here, octet by octet."""

from __future__ import annotations

import ssl
import struct
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnel_server.domain.client_hello import MAX_RECORDS, MAX_SIZE, ClientHello, read
from tunnel_server.domain.errors import NotClientHello

HANDSHAKE = 22
SERVER_NAME, ALPN, GREASE = 0, 16, 0x0A0A


# how a client writes


def vector(width: int, data: bytes) -> bytes:
    return len(data).to_bytes(width, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">H", kind) + vector(2, data)


def named(name: bytes, kind: int = 0) -> bytes:
    return extension(SERVER_NAME, vector(2, bytes([kind]) + vector(2, name)))


def offering(*protocols: bytes) -> bytes:
    return extension(ALPN, vector(2, b"".join(vector(1, protocol) for protocol in protocols)))


def body(
    extensions: bytes | None = b"",
    version: bytes = b"\3\3",
    session: bytes = b"s" * 32,
    suites: bytes = b"\x13\x01\xc0\x2f",
    compressions: bytes = b"\0",
) -> bytes:
    fixed = version + b"r" * 32 + vector(1, session) + vector(2, suites) + vector(1, compressions)
    return fixed if extensions is None else fixed + vector(2, extensions)


def message(content: bytes, kind: int = 1) -> bytes:
    return bytes([kind]) + vector(3, content)


def records(data: bytes, size: int = 1 << 14, kind: int = HANDSHAKE, version: bytes = b"\3\1") -> bytes:
    parts = (data[at : at + size] for at in range(0, len(data), size))
    return b"".join(bytes([kind]) + version + vector(2, part) for part in parts)


def hello(extensions: bytes | None = b"") -> bytes:
    return records(message(body(extensions)))


# what a real client writes


def real(
    name: str | None = "Web-K3y1d.tunnels.test",
    alpn: tuple[str, ...] = ("h2", "http/1.1"),
    set_up: Callable[[ssl.SSLContext], None] = lambda context: None,
) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    set_up(context)
    sent = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


def only_tls_1_2(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2


REAL = {
    "name and protocols": (real(), ClientHello("web-k3y1d.tunnels.test", (b"h2", b"http/1.1"))),
    "no name": (real(None), ClientHello(None, (b"h2", b"http/1.1"))),
    "an address in place of a name": (real("127.0.0.1"), ClientHello(None, (b"h2", b"http/1.1"))),
    "no protocols": (real(alpn=()), ClientHello("web-k3y1d.tunnels.test", ())),
    "ssh": (real(alpn=("ssh",)), ClientHello("web-k3y1d.tunnels.test", (b"ssh",))),
    "TLS 1.2": (
        real("a.test", ("acme-tls/1",), only_tls_1_2),
        ClientHello("a.test", (b"acme-tls/1",)),
    ),
    "many protocols": (
        real("a.test", tuple("p" * 255 for _ in range(99))),
        ClientHello("a.test", (b"p" * 255,) * 99),
    ),
}

whole = pytest.mark.parametrize(("data", "wanted"), REAL.values(), ids=REAL)


@whole
def test_a_real_client_is_understood(data: bytes, wanted: ClientHello) -> None:
    assert read(data) == wanted


@whole
def test_every_beginning_asks_for_more(data: bytes, wanted: ClientHello) -> None:
    step = 1 if len(data) < 5000 else 97
    cuts = [*range(0, len(data), step), len(data) - 1]

    assert [read(data[:cut]) for cut in cuts] == [None] * len(cuts)


@whole
@pytest.mark.parametrize("follows", [b"\x14\x03\x03\x00\x01\x01", b"\x17\x03\x03\x00\x10early", b"\0" * 9])
def test_what_follows_in_further_records_is_not_looked_at(data: bytes, wanted: ClientHello, follows: bytes) -> None:
    assert read(data + follows) == wanted


@pytest.mark.parametrize("size", [9, 10, 13, 100, 511])
def test_a_message_may_be_spread_over_records(size: int) -> None:
    spread = records(message(body(named(b"a.test") + offering(b"h2"))), size=size)

    assert read(spread) == ClientHello("a.test", (b"h2",))
    assert [read(spread[:cut]) for cut in range(len(spread))] == [None] * len(spread)


def test_what_is_not_known_is_skipped() -> None:
    grease = extension(GREASE, b"") + named(b"a.test") + offering(b"\x0a\x0a", b"h2") + extension(0xFAFA, b"\0")

    assert read(hello(grease)) == ClientHello("a.test", (b"\x0a\x0a", b"h2"))


@pytest.mark.parametrize("extensions", [None, b"", extension(43, b"\2\3\4")])
def test_a_client_may_say_neither_name_nor_protocols(extensions: bytes | None) -> None:
    assert read(hello(extensions)) == ClientHello(None, ())


@given(
    name=st.none() | st.text("abcdefghijklmnopqrstuvwxyzABCDEF0123456789-._", min_size=1, max_size=255),
    alpn=st.none() | st.lists(st.binary(min_size=1, max_size=255), min_size=1, max_size=20),
    others=st.dictionaries(st.integers(17, 0xFFFF), st.binary(max_size=50), max_size=5),
    order=st.randoms(use_true_random=False),
    session=st.binary(max_size=32),
    size=st.integers(40, 1 << 14),
    follows=st.binary(max_size=10),
)
def test_what_a_client_writes_is_read(
    name: str | None,
    alpn: list[bytes] | None,
    others: dict[int, bytes],
    order: object,
    session: bytes,
    size: int,
    follows: bytes,
) -> None:
    extensions = [extension(kind, data) for kind, data in others.items()]
    if name is not None:
        extensions.append(named(name.encode()))
    if alpn is not None:
        extensions.append(offering(*alpn))
    order.shuffle(extensions)  # type: ignore[attr-defined]
    data = records(message(body(b"".join(extensions), session=session)), size)

    assert read(data + follows) == ClientHello(name and name.lower(), tuple(alpn or ()))


WRONG = {
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "SSLv2": b"\x80\x2e\x01\x00\x02",
    "an alert": records(b"\2\x28", kind=21),
    "early data first": records(message(body()), kind=23),
    "no version of TLS": records(message(body()), version=b"\2\0"),
    "an empty record": b"\x16\x03\x01\x00\x00" + hello(),
    "a record too large": b"\x16\x03\x01\x40\x01",
    "a ServerHello": records(message(body(), kind=2)),
    "a HelloRequest": records(message(b"", kind=0)),
    "another type of record in between": records(message(body())[:9]) + records(b"\1", kind=20) + hello(),
    "another message in the same record": records(message(body()) + message(body())),
    "a message of nothing": records(message(b"")),
    "a message too large": records(b"\1\1\0\0" + bytes(100)),
    "a message a little too large": records(b"\1\0\xff\xfd"),
    "too many records": records(message(body(extension(99, bytes(300)))), size=1),
    "more octets than may be": records(message(body(extension(99, bytes(MAX_SIZE - 100)))), size=400),
    "a version that is not of TLS": records(message(body(version=b"\2\0"))),
    "a session id too long": records(message(body(session=bytes(33)))),
    "no cipher suite": records(message(body(suites=b""))),
    "half a cipher suite": records(message(body(suites=b"\0\1\2"))),
    "no compression method": records(message(body(compressions=b""))),
    "cut in the random": records(message(body()[:20])),
    "cut in the session id": records(message(body()[:40])),
    "cut in the cipher suites": records(message(body(None)[:-4])),
    "cut behind the cipher suites": records(message(body(None)[:-2])),
    "half a length of extensions": records(message(body(None) + b"\0")),
    "more than the extensions": records(message(body() + b"\0")),
    "less than the extensions": records(message(body(extension(9, b"1"))[:-1])),
    "half an extension": hello(b"\0\5\0"),
    "an extension beyond the others": hello(extension(9, b"")[:-1] + b"\1"),
    "an extension twice": hello(extension(9, b"") + extension(10, b"") + extension(9, b"")),
    "a name twice": hello(named(b"a.test") + named(b"a.test")),
    "an unknown extension twice": hello(extension(GREASE, b"") + extension(GREASE, b"")),
    "no list of names": hello(extension(SERVER_NAME, b"")),
    "an empty list of names": hello(extension(SERVER_NAME, vector(2, b""))),
    "an empty name": hello(named(b"")),
    "two names": hello(extension(SERVER_NAME, vector(2, b"\0" + vector(2, b"a.test") + b"\0" + vector(2, b"b.test")))),
    "a name of another type": hello(named(b"a.test", kind=1)),
    "a name too long": hello(named(b"a" * 256)),
    "a name with a NUL": hello(named(b"a.test\0b.test")),
    "a name with a line end": hello(named(b"a.test\n")),
    "a name with a space": hello(named(b"a test")),
    "a name that is not ASCII": hello(named("ä.test".encode())),
    "a name that says it is longer": hello(extension(SERVER_NAME, vector(2, b"\0\0\7a.test"))),
    "a list of names that says it is longer": hello(extension(SERVER_NAME, b"\0\x0a\0\0\6a.test")),
    "a list of names that says it is shorter": hello(extension(SERVER_NAME, b"\0\7\0\0\6a.test")),
    "more behind the list of names": hello(extension(SERVER_NAME, vector(2, b"\0" + vector(2, b"a.test")) + b"\0")),
    "no list of protocols": hello(extension(ALPN, b"")),
    "an empty list of protocols": hello(offering()),
    "an empty protocol": hello(offering(b"h2", b"")),
    "a protocol that says it is longer": hello(extension(ALPN, vector(2, b"\3h2"))),
    "a list of protocols that says it is longer": hello(extension(ALPN, b"\0\4\2h2")),
    "more behind the list of protocols": hello(extension(ALPN, vector(2, b"\2h2") + b"\0")),
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
def test_what_cannot_be_read_in_one_way_only_is_refused(data: bytes) -> None:
    with pytest.raises(NotClientHello) as refused:
        read(data)

    assert 0 < len(str(refused.value)) < 400


def test_the_error_has_a_code() -> None:
    assert NotClientHello.code == "tls.client-hello"


@pytest.mark.parametrize(
    ("data", "octets"),
    [
        (b"GET /", 1),
        (b"\x16\x02\x00\x02\x00", 2),
        (b"\x16\x03\x01\x40\x01", 5),
        (b"\x16\x03\x01\x00\x00", 5),
        (b"\x16\x03\x01\x02\x00\x02", 6),
        (b"\x16\x03\x01\x02\x00\x01\x01\x00\x00", 9),
    ],
)
def test_it_is_refused_as_soon_as_it_cannot_be_one(data: bytes, octets: int) -> None:
    assert [read(data[:cut]) for cut in range(octets)] == [None] * octets
    with pytest.raises(NotClientHello):
        read(data[:octets])


def test_as_many_records_and_octets_as_may_be_are_read() -> None:
    head = len(message(body(b"")))
    room = MAX_SIZE - 5 * MAX_RECORDS - head - 4
    largest = records(message(body(extension(99, bytes(room)))), size=(room + head + 4) // MAX_RECORDS)

    assert len(largest) == MAX_SIZE
    assert read(largest) == ClientHello(None, ())
    assert read(largest[:-1]) is None


nearly = st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=300).map(lambda data: records(message(data))),
    st.binary(max_size=300).map(lambda data: hello(data)),
    st.binary(max_size=300).map(lambda data: hello(extension(SERVER_NAME, data))),
    st.binary(max_size=300).map(lambda data: hello(extension(ALPN, data))),
    st.lists(st.binary(max_size=60).map(lambda data: records(data, size=20)), max_size=9).map(b"".join),
)


def verdict(data: bytes) -> ClientHello | str | None:
    try:
        return read(data)
    except NotClientHello:
        return "refused"


@given(nearly, st.data())
def test_more_octets_never_change_what_was_said(data: bytes, draw: st.DataObject) -> None:
    first = verdict(data[: draw.draw(st.integers(0, len(data)))])

    assert first is None or verdict(data) == first


def test_octets_beyond_the_limit_are_never_asked_for() -> None:
    endless = records(b"\1\0\xff\xfc" + bytes(MAX_SIZE), size=1 << 14)

    assert verdict(endless[:MAX_SIZE]) == "refused"


def test_the_costliest_message_is_read_in_milliseconds() -> None:
    room = MAX_SIZE - 500
    costly = [
        hello_in_large_records(b"".join(extension(kind, b"") for kind in range(100, 100 + room // 4))),
        hello_in_large_records(offering(*[b"x"] * (room // 2 - 9))),
        records(message(body(extension(99, bytes(MAX_RECORDS)))), size=1)[: 6 * MAX_RECORDS - 1],
    ]

    for data in costly:
        begun = time.process_time()
        verdict(data)
        assert time.process_time() - begun < 0.25


def hello_in_large_records(extensions: bytes) -> bytes:
    data = records(message(body(extensions)))
    assert len(data) <= MAX_SIZE
    return data


# what OpenSSL reads in the same octets


@cache
def server_context() -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a.test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    text = certificate.public_bytes(pem) + key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return loaded(text)


def loaded(pem: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.pem"
        path.write_bytes(pem)
        context.load_cert_chain(path)
    context.set_alpn_protocols(["http/1.1", "h2"])
    return context


def as_openssl_reads(data: bytes) -> tuple[str | None, str | None] | None:
    """The name and the protocol that a server of Python's ssl sees; ``None`` if it refuses."""
    names: list[str | None] = []
    context = server_context()
    context.sni_callback = lambda _object, name, _context: names.append(name)
    received = ssl.MemoryBIO()
    received.write(data)
    server = context.wrap_bio(received, ssl.MemoryBIO(), server_side=True)
    try:
        server.do_handshake()
    except ssl.SSLWantReadError:
        return (names[-1] if names else None, server.selected_alpn_protocol())
    except ssl.SSLError:
        return None
    raise AssertionError("a handshake without the client's answer")


def agrees(ours: ClientHello, theirs: tuple[str | None, str | None]) -> bool:
    name, protocol = theirs
    chosen = next((own for own in ("http/1.1", "h2") if own.encode() in ours.alpn), None)
    return ours.server_name == (name and name.lower()) and chosen == protocol


@pytest.mark.parametrize("data", [data for data, _ in REAL.values()], ids=REAL)
def test_openssl_reads_the_same(data: bytes) -> None:
    ours, theirs = read(data), as_openssl_reads(data)

    assert ours is not None
    assert theirs is not None
    assert agrees(ours, theirs)


# Without protocols in common OpenSSL 3 goes on, so both sides always have something to say of the mutated ones.
MUTATED = real("web.test", ("h2", "http/1.1"))


@given(st.lists(st.tuples(st.integers(0, len(MUTATED) - 1), st.integers(0, 255)), min_size=1, max_size=3))
@settings(max_examples=300, deadline=None)
def test_of_what_both_read_neither_reads_anything_else(changes: list[tuple[int, int]]) -> None:
    data = bytearray(MUTATED)
    for at, octet in changes:
        data[at] = octet
    ours = verdict(bytes(data))

    if isinstance(ours, ClientHello) and (theirs := as_openssl_reads(bytes(data))) is not None:
        assert agrees(ours, theirs)
