from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel_server.domain.demux import Inside, Spoken, inside, spoken, unsaid

TLS, SSH, HTTP, UNCLEAR, UNKNOWN = Spoken.TLS, Spoken.SSH, Spoken.HTTP, Spoken.UNCLEAR, Spoken.NOTHING_KNOWN


@pytest.mark.parametrize(
    ("first", "means"),
    [
        (b"\x16\x03\x01\x02\x00\x01", TLS),
        (b"\x16", TLS),
        (b"\x16\x02", UNKNOWN),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", SSH),
        (b"SSH-", SSH),
        (b"SSH", UNCLEAR),
        (b"", UNCLEAR),
        (b"S", UNCLEAR),
        (b"SEARCH", UNCLEAR),
        (b"SEARCH ", HTTP),
        (b"GET / HTTP/1.1\r\n", HTTP),
        (b"GET", UNCLEAR),
        (b"P", UNCLEAR),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", UNKNOWN),
        (b"PRI ", UNCLEAR),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n", HTTP),
        (b"A" * 20, UNCLEAR),
        (b"A" * 21, UNKNOWN),
        (b"get / HTTP/1.1", UNKNOWN),
        (b"GET  /", UNKNOWN),
        (b"\r\n", UNKNOWN),
        (b"\x80\x2e\x01\x03\x01", UNKNOWN),
        (b"\x00", UNKNOWN),
        (b"\x03\x00\x00\x13", UNKNOWN),
    ],
)
def test_the_first_bytes_say_what_is_spoken(first: bytes, means: Spoken) -> None:
    assert spoken(first) is means


@given(st.binary(min_size=21))
def test_twenty_one_bytes_are_enough(first: bytes) -> None:
    assert spoken(first[:21]) is not UNCLEAR


@given(st.binary(max_size=40), st.binary(max_size=8))
def test_what_is_said_is_not_unsaid_by_more(first: bytes, more: bytes) -> None:
    if (said := spoken(first)) not in (UNCLEAR, TLS):
        assert spoken(first + more) is said


@pytest.mark.parametrize(
    ("alpn", "means"), [("ssh", Inside.SSH), ("http/1.1", Inside.HTTP), ("h2", Inside.HTTP2), (None, Inside.UNSAID)]
)
def test_what_is_spoken_inside_tls_is_negotiated(alpn: str | None, means: Inside) -> None:
    assert inside(alpn) is means


@pytest.mark.parametrize(
    ("first", "silent", "server_name", "means"),
    [
        (b"SSH-2.0-x", False, None, Inside.SSH),
        (b"GET / HTTP/1.1", False, "tunnels.test", Inside.HTTP),
        (b"", False, "tunnels.test", Inside.UNSAID),
        (b"GE", False, None, Inside.UNSAID),
        (b"", True, "tunnels.test", Inside.SSH),
        (b"", True, "web-abc.tunnels.test", Inside.HTTP),
        (b"", True, None, Inside.HTTP),
        (b"\x00", False, "tunnels.test", Inside.SSH),
        (b"\x00", False, None, Inside.HTTP),
    ],
)
def test_where_nothing_is_negotiated_the_first_bytes_tell_and_then_the_server_name(
    first: bytes, silent: bool, server_name: str | None, means: Inside
) -> None:
    assert unsaid(first, silent, server_name, frozenset({"tunnels.test"})) is means
