from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel_server.domain.errors import InvalidBaseUrl, InvalidName, InvalidTunnelName
from tunnel_server.domain.identity import ClientId
from tunnel_server.domain.naming import BaseUrl, checked_names, host_label

CLIENT = ClientId("k3y1dk3y")
DIGEST_FORM = re.compile(r"-[a-z0-9_-]{4}-k3y1dk3y\Z")


@given(st.text(min_size=1), st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True))
def test_a_label_is_one_to_63_octets_of_letters_digits_and_dashes(name: str, client: str) -> None:
    label = host_label(name, ClientId(client))

    assert re.fullmatch(r"[a-z0-9_-]{1,63}", label)
    assert label.endswith(f"-{client}")


@given(st.text(min_size=1), st.text(min_size=1))
def test_two_names_share_a_label_only_by_digest(first: str, second: str) -> None:
    if host_label(first, CLIENT) == host_label(second, CLIENT):
        assert first == second or DIGEST_FORM.search(host_label(first, CLIENT))


def test_names_that_clean_alike_stay_apart() -> None:
    labels = {host_label(name, CLIENT) for name in ("a-b", "a/b", "a.b", "A-b", "a b", "x" * 60, "x" * 61)}

    assert len(labels) == 7


def test_an_empty_name_has_no_label() -> None:
    with pytest.raises(InvalidTunnelName):
        host_label("", CLIENT)


@pytest.mark.parametrize(
    ("text", "root", "tunnel"),
    [
        ("http://tunnels.test:3000", "http://tunnels.test:3000/", "http://web.tunnels.test:3000/"),
        ("https://Tunnels.Example.COM/", "https://tunnels.example.com/", "https://web.tunnels.example.com/"),
        ("https://t.example.com:443", "https://t.example.com/", "https://web.t.example.com/"),
        ("http://localhost", "http://localhost/", "http://web.localhost/"),
    ],
)
def test_a_base_url_gives_the_urls_of_its_tunnels(text: str, root: str, tunnel: str) -> None:
    base = BaseUrl.parse(text)

    assert (base.root_url, base.tunnel_url("web")) == (root, tunnel)
    assert BaseUrl.parse(base.root_url) == base


@pytest.mark.parametrize(
    "text",
    ["", "tunnels.test", "ftp://a", "http://", "http://a:0", "http://a:99999", "http://a:x", "http://a/b", "http://a?b",
     "http://u@a", "http://a b", "http://-a", "http://[::g]", "http://a\n"],
)  # fmt: skip
def test_what_is_more_or_less_than_a_base_url_is_refused(text: str) -> None:
    with pytest.raises(InvalidBaseUrl):
        BaseUrl.parse(text)


def test_the_port_of_the_scheme_is_told_as_empty() -> None:
    assert BaseUrl.parse("https://a.test").describe() == {"hostname": "a.test", "port": "", "protocol": "https:"}
    assert BaseUrl.parse("http://a.test:8080").describe()["port"] == "8080"


BASE = BaseUrl.parse("https://tunnels.example.com:8443")


def test_names_that_were_given_are_checked_and_each_is_kept_once() -> None:
    given = ["Shop", "shop", "APP.example.org.", "*.pr.example.org", "example.com", "a_b.example.org"]

    assert checked_names(given, BASE) == (
        "shop",
        "app.example.org",
        "*.pr.example.org",
        "example.com",
        "a_b.example.org",
    )


@pytest.mark.parametrize(
    "name",
    [
        "auth", "API", "proxy", "", "-a", "a-", "a b", "x" * 64, "ä", "a\n", "*", "*.com", "a.*.org", "**.a.org",
        "a..org", ".org", "tunnels.example.com", "x.tunnels.example.com", "*.tunnels.example.com", "*.example.com",
        "127.0.0.1", "x.1", "a." * 127 + "a", "127.0.0.0x1", "\u212aey.org",
    ],
)  # fmt: skip
def test_a_name_that_no_tunnel_may_have_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        checked_names([name], BASE)


def test_a_whole_host_name_has_the_base_urls_scheme_and_port() -> None:
    assert BASE.tunnel_url("app.example.org") == "https://app.example.org:8443/"
    assert BASE.tunnel_url("web") == "https://web.tunnels.example.com:8443/"
