from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tunnel_server import BaseUrl
from tunnel_server.house.private_tunnels.places import (
    MAX_RETURN,
    NotAPath,
    Places,
    of_head,
    parameter,
    return_path,
    with_parameter,
    without,
)
from tunnel_server.house.private_tunnels.sessions import Role, Session

NOW = 1_800_000_000
BASE = BaseUrl.parse("http://tunnels.test:3000")
SESSION = Session(Role.ADMIN, NOW + 3600)


@pytest.mark.parametrize(
    "path",
    ["/", "/a", "/a/b?c=d&e=f", "/a?next=//b", "/a?next=https://b", "/%0d%0a", "/a b", "/é", "/?", "/.", "/%252f"],
)
def test_a_path_is_returned_to(path: str) -> None:
    assert return_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "", "a", "//evil.test", "///evil.test", "/\\evil.test", "\\/evil.test", "\\\\evil.test", "/%2fevil.test",
        "/%2Fevil.test", "/%5cevil.test", "/%5Cevil.test", "http://evil.test", "https:evil.test", "javascript:alert(1)",
        " /a", "\t/a", "/\t/evil.test", "/\n/evil.test", "/\r\nSet-Cookie: a=b", "/a\r\n\r\n<script>", "/a\x00b",
        "/a\x7fb", "/a\\b", "?a", "#a", ".evil.test", "@evil.test", "/" + "a" * MAX_RETURN,
    ],
)  # fmt: skip
def test_what_could_lead_elsewhere_is_not_returned_to(path: str) -> None:
    with pytest.raises(NotAPath):
        return_path(path)


def test_the_login_url_says_which_tunnel_and_which_path() -> None:
    places = Places(BASE)

    url = places.login("web-1", "/a?b=c&d=%20")

    assert url == "http://auth.tunnels.test:3000/login?env=web-1&returnPath=%2Fa%3Fb%3Dc%26d%3D%2520"


@pytest.mark.parametrize("path", ["//evil.test/", "/\\evil.test", "///", "/%", "/%2f%5C/x", "/" + "a" * 5000])
def test_no_path_of_a_tunnel_makes_a_login_url_that_is_refused(path: str) -> None:
    url = Places(BASE).login("web-1", of_head(path))
    (back,) = parse_qs(urlsplit(url).query)["returnPath"]

    assert return_path(back)


def test_a_page_is_on_its_own_host_whatever_its_path() -> None:
    places = Places(BASE)

    assert (
        places.page("web-1.tunnels.test", "//evil.test/ä\\b") == "http://web-1.tunnels.test:3000//evil.test/%C3%A4%5Cb"
    )
    assert places.page("app.example.com", "/") == "http://app.example.com:3000/"
    assert places.page("app.example.com", "*") == "http://app.example.com:3000/"


def test_octets_of_a_head_stay_octets() -> None:
    assert of_head('/\xe9?\xc3\xa9=\x80 "<>') == "/%E9?%C3%A9=%80%20%22%3C%3E"


@pytest.mark.parametrize(
    ("field", "host"),
    [
        ("Web-1.Tunnels.Test:3000", "web-1.tunnels.test"),
        ("web-1.tunnels.test.", "web-1.tunnels.test"),
        ("web-1.tunnels.test.:80", "web-1.tunnels.test"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("", ""),
    ],
)
def test_a_host_is_compared_in_one_form(field: str, host: str) -> None:
    assert Places(BASE).host(field) == host


def test_a_cookie_for_the_base_host_says_so(clock: Any) -> None:
    cookie = Places(BASE, clock=clock).session_cookie(SESSION, "value", "urn:x", "web-1.tunnels.test")

    assert cookie == (
        "preevy-urn:x=value; Path=/; Domain=tunnels.test; Max-Age=3600; Expires=Fri, 15 Jan 2027 09:00:00 GMT; "
        "Secure; HttpOnly; SameSite=None"
    )


@pytest.mark.parametrize(
    ("base", "host"),
    [
        ("http://localhost:3000", "web-1.localhost"),
        ("http://tunnels", "web-1.tunnels"),
        ("http://127.0.0.1:3000", "web-1.127.0.0.1"),
        ("http://[::1]:3000", "web-1.[::1]"),
        ("http://tunnels.test", "app.example.com"),
        ("http://tunnels.test", "eviltunnels.test"),
    ],
)
def test_a_cookie_that_browsers_would_not_share_is_the_hosts_own(clock: Any, base: str, host: str) -> None:
    places = Places(BaseUrl.parse(base), clock=clock)

    cookie = places.session_cookie(SESSION, "value", "urn:x", host)

    assert "Domain" not in cookie
    assert places.scope(host) == host


def test_sessions_are_the_hosts_own_if_that_is_wanted() -> None:
    places = Places(BASE, per_host=True)

    assert places.scope("web-1.tunnels.test") == "web-1.tunnels.test"


def test_parameters_are_taken_away_and_all_else_stays() -> None:
    path = "/a?x=1&_h=basic&y=%20&_h=&_hh=1&_h"

    assert without(path, "_h") == "/a?x=1&y=%20&_hh=1"
    assert without("/a?_h=1", "_h") == "/a"
    assert without("/_h", "_h") == "/_h"
    assert parameter(path, "_h") == "basic"
    assert parameter("/_h=1", "_h") is None


def test_a_parameter_is_added_before_a_fragment() -> None:
    assert with_parameter("/a?b#c", "d", "e") == "/a?b&d=e#c"
    assert with_parameter("/a", "d", "e") == "/a?d=e"
