from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel_server.domain.errors import InvalidBaseUrl, InvalidTunnelName
from tunnel_server.domain.identity import ClientId
from tunnel_server.domain.naming import BaseUrl, host_label

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
