from __future__ import annotations

import pytest

from tunnel_server.domain.visit import Headers, Request, is_field


def request(*lines: bytes) -> Request:
    return Request("GET", "/a?b", "web.test", "https", "192.0.2.1", list(lines))


def test_fields_are_read_without_regard_to_case_and_joined() -> None:
    asked = request(b"X-A: 1\r\n", b"x-a:2 \r\n", b"Other: 3\r\n")

    assert (asked.header("x-a"), asked.headers("x-a"), asked.header("none", "-")) == ("1, 2", ["1", "2"], "-")
    assert asked.secure


def test_the_first_cookie_of_a_name_counts_over_all_lines() -> None:
    asked = request(b"Cookie: a=1; b=2=3\r\n", b"cookie: a=9;c=;d\r\n")

    assert [asked.cookie(name) for name in "abcd"] == ["1", "2=3", "", None]


def test_headers_are_changed_in_place() -> None:
    lines = [b"Server: old\r\n", b"X: 1\r\n", b"x: 2\r\n"]
    headers = Headers(lines)

    headers.set("x", "3")
    headers.add("Y", "é")
    headers.remove("SERVER")

    assert lines == [b"x: 3\r\n", b"Y: \xe9\r\n"]
    assert list(headers) == [("x", "3"), ("Y", "é")]
    assert (headers.get("X"), headers.get("z", "-"), headers.get_all("y")) == ("3", "-", ["é"])


@pytest.mark.parametrize(
    "name", ["Host", "content-length", "Transfer-Encoding", "Connection", "upgrade", "TE", "a b", ""]
)
def test_what_decides_how_a_message_is_read_is_not_for_plugins(name: str) -> None:
    for change in (lambda h: h.set(name, "1"), lambda h: h.add(name, "1"), lambda h: h.remove(name)):
        with pytest.raises(ValueError, match=r"field name|for the server"):
            change(Headers([]))


@pytest.mark.parametrize("value", ["a\r\nb: c", "\0", "a\nb", "☃", "x" * 16385])
def test_a_value_that_would_end_the_line_is_refused(value: str) -> None:
    assert not is_field("x", value)
    with pytest.raises(ValueError, match="may not be in a field"):
        Headers([]).set("x", value)
