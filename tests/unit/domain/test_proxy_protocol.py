"""The other side's view: headers are written here, by the words of the specification, and read there."""

from __future__ import annotations

import contextlib
import struct
import time
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel_server.domain.proxy_protocol import (
    MAX_V1,
    MAX_V2,
    InvalidProxyHeader,
    Told,
    begins,
    crc32c,
    read,
)

SIGNATURE = bytes.fromhex("0D0A0D0A000D0A515549540A")
LOCAL, PROXY = 0, 1
INET, INET6, UNIX = 1, 2, 3
STREAM, DGRAM = 1, 2

V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"

ports = st.integers(0, 65535)
v4 = st.integers(0, 2**32 - 1).map(IPv4Address)
v6 = st.integers(0, 2**128 - 1).map(IPv6Address).filter(lambda address: address.ipv4_mapped is None)


def v2(body: bytes, command: int = PROXY, family: int = INET, transport: int = STREAM, version: int = 2) -> bytes:
    return SIGNATURE + bytes([version << 4 | command, family << 4 | transport]) + struct.pack(">H", len(body)) + body


def pair(source: IPv4Address | IPv6Address, port: int) -> bytes:
    """An address block; the destination is as long as the source."""
    return source.packed + bytes(len(source.packed)) + struct.pack(">HH", port, 443)


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack(">BH", kind, len(value)) + value


def slow_crc32c(data: bytes) -> int:
    """By long division, bit by bit."""
    crc = 0xFFFFFFFF
    for octet in data:
        for bit in range(8):
            low = crc & 1 ^ octet >> bit & 1
            crc >>= 1
            if low:
                crc ^= 0x82F63B78
    return crc ^ 0xFFFFFFFF


def signed(body: bytes, before: bytes = b"", after: bytes = b"", family: int = INET) -> bytes:
    """A version 2 header with a checksum among its extensions."""
    blank = v2(body + before + tlv(3, bytes(4)) + after, family=family)
    at = len(blank) - len(after) - 4
    return blank[:at] + struct.pack(">I", slow_crc32c(blank)) + blank[at + 4 :]


VALID = {
    "v1 TCP4": (V1, ("192.0.2.7", 56324)),
    "v1 TCP6": (b"PROXY TCP6 2001:db8::7 2001:DB8:0:0:0:0:0:1 0 65535\r\n", ("2001:db8::7", 0)),
    "v1 TCP6, mapped": (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", ("192.0.2.7", 1)),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", None),
    "v1 unknown, with words": (b"PROXY UNKNOWN ffff::  1 65536 \x80\r\n", None),
    "v1 as long as can be": (b"PROXY UNKNOWN " + b"x" * (MAX_V1 - 16) + b"\r\n", None),
    "v2 local": (v2(b"", LOCAL, 0, 0), None),
    "v2 local, block ignored": (v2(b"\1\2\3", LOCAL, 9, 9), None),
    "v2 unspecified": (v2(b"", PROXY, 0, 0), None),
    "v2 unspecified, block ignored": (v2(b"\xff" * 7, PROXY, 0, 0), None),
    "v2 inet": (v2(pair(IPv4Address("192.0.2.7"), 56324)), ("192.0.2.7", 56324)),
    "v2 inet6": (v2(pair(IPv6Address("2001:db8::7"), 1), family=INET6), ("2001:db8::7", 1)),
    "v2 inet6, mapped": (v2(pair(IPv6Address("::ffff:192.0.2.7"), 1), family=INET6), ("192.0.2.7", 1)),
    "v2 unix": (v2(b"/run/a".ljust(108, b"\0") + bytes(108), family=UNIX), None),
    "v2 extensions": (
        v2(pair(IPv4Address("192.0.2.7"), 9) + tlv(2, b"a.test") + tlv(4, b"") + tlv(0xEA, b"\1vpce")),
        ("192.0.2.7", 9),
    ),
    "v2 checksum": (signed(pair(IPv4Address("192.0.2.7"), 9), tlv(1, b"h2"), tlv(4, b"\0\0")), ("192.0.2.7", 9)),
    "v2 as long as can be": (
        v2(pair(IPv4Address("192.0.2.7"), 9) + tlv(4, bytes(MAX_V2 - 12 - 3))),
        ("192.0.2.7", 9),
    ),
}

valid = pytest.mark.parametrize(("header", "source"), VALID.values(), ids=VALID)


@valid
def test_a_header_tells_the_source_and_its_own_size(header: bytes, source: tuple[str, int] | None) -> None:
    assert begins(header) is True
    assert read(header) == Told(source, len(header))
    assert read(header + b"\x16\x03\x01\r\n") == Told(source, len(header))


@valid
def test_every_beginning_of_a_header_asks_for_more(header: bytes, source: tuple[str, int] | None) -> None:
    assert [read(header[:cut]) for cut in range(len(header))] == [None] * len(header)


@given(source=st.one_of(v4, v6), port=ports, target=ports)
def test_what_version_1_writes_is_read(source: IPv4Address | IPv6Address, port: int, target: int) -> None:
    header = f"PROXY TCP{source.version} {source} {source} {port} {target}\r\n".encode()

    assert read(header) == Told((str(source), port), len(header))


@given(
    source=st.one_of(v4, v6),
    port=ports,
    extensions=st.lists(
        st.tuples(st.integers(0, 255).filter(lambda kind: kind != 3), st.binary(max_size=40)), max_size=5
    ),
    sign=st.booleans(),
    follows=st.binary(max_size=20),
)
def test_what_version_2_writes_is_read(
    source: IPv4Address | IPv6Address, port: int, extensions: list[tuple[int, bytes]], sign: bool, follows: bytes
) -> None:
    family = INET if source.version == 4 else INET6
    tlvs = b"".join(tlv(*extension) for extension in extensions)
    body = pair(source, port)
    header = signed(body, before=tlvs, family=family) if sign else v2(body + tlvs, family=family)

    assert read(header + follows) == Told((str(source), port), len(header))


@given(address=v4, port=ports)
def test_an_ipv4_address_inside_ipv6_is_told_as_ipv4(address: IPv4Address, port: int) -> None:
    mapped = IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)

    for header in (v2(pair(mapped, port), family=INET6), f"PROXY TCP6 {mapped} ::1 {port} 1\r\n".encode()):
        assert read(header) == Told((str(address), port), len(header))


@pytest.mark.parametrize(
    ("data", "begun"),
    [
        (b"", None),
        (b"P", None),
        (b"PROXY", None),
        (b"PROXY ", True),
        (b"PROXY TCP4 1.2", True),
        (b"\r\n\r\n\0\r\nQUIT", None),
        (SIGNATURE, True),
        (SIGNATURE + b"\x21", True),
        (b"PUT / HTTP/1.1\r\n", False),
        (b"PROXYX", False),
        (b"proxy ", False),
        (b"\r\n\r\nGET / HTTP/1.1\r\n", False),
        (b"\x16\x03\x01", False),
        (b"SSH-2.0-", False),
    ],
)
def test_the_first_octets_tell_whether_a_header_begins(data: bytes, begun: bool | None) -> None:
    assert begins(data) is begun


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\n",
        b"PROXY \r\n",
        b"PROXY TCP5 192.0.2.7 198.51.100.1 56324 443\r\n",
        b"PROXY tcp4 192.0.2.7 198.51.100.1 56324 443\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY UNKNOWN\t1\r\n",
        b"PROXY  TCP4 192.0.2.7 198.51.100.1 56324 443\r\n",
        b"PROXY TCP4  192.0.2.7 198.51.100.1 56324 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443 \r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n",
        b"PROXY TCP4 192.0.2.7\t198.51.100.1 56324 443\r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 56324 443\r\n",
        b"PROXY TCP4 192.0.2.7 2001:db8::1 56324 443\r\n",
        b"PROXY TCP6 192.0.2.7 2001:db8::1 56324 443\r\n",
        b"PROXY TCP6 2001:db8::7 192.0.2.7 56324 443\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 56324 443\r\n",
        b"PROXY TCP6 [::1] ::1 56324 443\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.1 56324 443\r\n",
        b"PROXY TCP4 192.0.2.07 198.51.100.1 56324 443\r\n",
        b"PROXY TCP4 192.0.2 198.51.100.1 56324 443\r\n",
        b"PROXY TCP4 192.0.2.7/8 198.51.100.1 56324 443\r\n",
        b"PROXY TCP4 3221225991 198.51.100.1 56324 443\r\n",
        b"PROXY TCP4 192.0.2.\xb2 198.51.100.1 56324 443\r\n",
        b"PROXY TCP4 localhost 198.51.100.1 56324 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 65536\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 056324 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 01 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 00 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 +1 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1_0 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 \xb2 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1  443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 \0\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\r\n",
        b"PROXY UNKNOWN " + b"x" * MAX_V1,
        b"PROXY UNKNOWN " + b"x" * (MAX_V1 - 15) + b"\r\n",
    ],
)
def test_a_version_1_line_that_is_not_exactly_so_is_refused(line: bytes) -> None:
    with pytest.raises(InvalidProxyHeader):
        read(line)


ADDRESS = pair(IPv4Address("192.0.2.7"), 56324)
SIGNED = signed(ADDRESS)


@pytest.mark.parametrize(
    "header",
    [
        v2(ADDRESS, version=1),
        v2(ADDRESS, version=3),
        v2(ADDRESS, command=2),
        v2(ADDRESS, family=4),
        v2(ADDRESS, family=0),
        v2(ADDRESS, transport=0),
        v2(ADDRESS, transport=DGRAM),
        v2(bytes(36), family=INET6, transport=DGRAM),
        v2(bytes(216), family=UNIX, transport=DGRAM),
        v2(ADDRESS, transport=3),
        v2(ADDRESS[:-1]),
        v2(b""),
        v2(bytes(35), family=INET6),
        v2(bytes(215), family=UNIX),
        v2(ADDRESS + tlv(4, bytes(MAX_V2))),
        v2(bytes(MAX_V2 + 1), LOCAL, 0, 0),
        v2(ADDRESS + b"\4"),
        v2(ADDRESS + b"\4\0"),
        v2(ADDRESS + b"\4\0\1"),
        v2(ADDRESS + tlv(4, b"x") + b"\4\xff\xff"),
        v2(bytes(216) + b"\4\0\1", family=UNIX),
        v2(ADDRESS + tlv(3, b"\0\0\0")),
        v2(ADDRESS + tlv(3, b"\0\0\0\0\0")),
        v2(ADDRESS + tlv(3, b"")),
        v2(ADDRESS + tlv(3, bytes(4))),
        SIGNED[:-1] + bytes([SIGNED[-1] ^ 1]),
        SIGNED[:16] + bytes([SIGNED[16] ^ 1]) + SIGNED[17:],
    ],
)
def test_a_version_2_header_that_is_not_exactly_so_is_refused(header: bytes) -> None:
    with pytest.raises(InvalidProxyHeader):
        read(header)


def test_a_header_with_two_checksums_is_refused() -> None:
    header = signed(ADDRESS, after=tlv(3, bytes(4)))

    with pytest.raises(InvalidProxyHeader, match="twice"):
        read(header)


@pytest.mark.parametrize("end", [13, 14, 16])
def test_a_version_2_header_is_refused_before_it_is_whole(end: int) -> None:
    header = {
        13: v2(ADDRESS, version=1),
        14: v2(ADDRESS, transport=DGRAM),
        16: v2(bytes(MAX_V2 + 1), LOCAL, 0, 0),
    }[end]

    assert read(header[: end - 1]) is None
    with pytest.raises(InvalidProxyHeader):
        read(header[:end])


def test_the_error_has_a_code_and_names_what_is_wrong() -> None:
    with pytest.raises(InvalidProxyHeader, match=r"'192\.0\.2\.256' is no address of TCP4"):
        read(b"PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n")
    assert InvalidProxyHeader.code == "proxy-protocol.invalid"


def test_what_is_no_header_is_refused_with_no_more_than_its_beginning_in_the_text() -> None:
    with pytest.raises(InvalidProxyHeader) as refused:
        read(b"GET / HTTP/1.1\r\n" + b"x" * 10_000)

    assert len(str(refused.value)) < 100


nearly = st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=120).map(b"PROXY ".__add__),
    st.binary(max_size=300).map(SIGNATURE.__add__),
    st.builds(
        lambda kind, fam, body: SIGNATURE + bytes([kind, fam]) + struct.pack(">H", len(body)) + body,
        st.sampled_from([0x20, 0x21]),
        st.sampled_from([0x00, 0x11, 0x21, 0x31]),
        st.binary(max_size=300),
    ),
)


@given(nearly)
def test_no_octets_make_it_fail_otherwise(data: bytes) -> None:
    try:
        told = read(data)
    except InvalidProxyHeader:
        return
    assert told is None or 0 < told.size <= len(data)


@given(nearly, st.data())
def test_more_octets_never_change_what_was_said(data: bytes, draw: st.DataObject) -> None:
    def verdict(octets: bytes) -> Told | str | None:
        try:
            return read(octets)
        except InvalidProxyHeader:
            return "refused"

    first = verdict(data[: draw.draw(st.integers(0, len(data)))])

    assert first is None or verdict(data) == first


@given(st.binary(min_size=MAX_V1 - 6, max_size=MAX_V1 * 2))
def test_a_line_is_never_waited_for_beyond_its_limit(data: bytes) -> None:
    try:
        told = read(b"PROXY " + data)
    except InvalidProxyHeader:
        return
    assert told is not None


@given(st.binary(max_size=200))
def test_the_checksum_is_that_of_long_division(data: bytes) -> None:
    assert crc32c(data) == slow_crc32c(data)


@pytest.mark.parametrize(
    ("data", "checksum"),  # RFC 3720 appendix B.4
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
    ],
)
def test_the_checksum_has_the_values_of_the_examples(data: bytes, checksum: int) -> None:
    assert crc32c(data) == checksum


def test_the_costliest_header_is_read_in_milliseconds() -> None:
    costly = [
        signed(ADDRESS, before=tlv(4, b"") * ((MAX_V2 - 12 - 7) // 3)),
        v2(ADDRESS + tlv(4, bytes(MAX_V2 - 12 - 3))),
        b"PROXY TCP6 " + b":" * (MAX_V1 - 11),
    ]

    for header in costly:
        begun = time.process_time()
        with contextlib.suppress(InvalidProxyHeader):
            read(header)
        assert time.process_time() - begun < 0.1
