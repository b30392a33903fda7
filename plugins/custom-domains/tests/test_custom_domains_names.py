"""Which names are whole host names."""

from __future__ import annotations

import pytest
from tunnel_server_custom_domains.names import MAX_HOST, Domain, DomainReader, NotPublishable

READER = DomainReader("tunnels.host.com", suffixes=("internal", "corp.example"))


@pytest.mark.parametrize(
    ("name", "published", "registrable"),
    [
        ("app.example.com", "app.example.com", "example.com"),
        ("App.Example.COM.", "app.example.com", "example.com"),
        ("example.com", "example.com", "example.com"),
        ("a.b.example.co.uk", "a.b.example.co.uk", "example.co.uk"),
        ("*.preview.example.com", "*.preview.example.com", "example.com"),
        ("münchen.example.de", "xn--mnchen-3ya.example.de", "example.de"),
        ("MÜNCHEN.example.de", "xn--mnchen-3ya.example.de", "example.de"),
        ("xn--mnchen-3ya.example.de", "xn--mnchen-3ya.example.de", "example.de"),
        ("ａｐｐ。example.com", "app.example.com", "example.com"),
        ("me.github.io", "me.github.io", "me.github.io"),
        ("app.internal", "app.internal", "app.internal"),
        ("a.b.corp.example", "a.b.corp.example", "b.corp.example"),
    ],
)
def test_a_whole_host_name_is_published_in_lower_case_a_labels(name: str, published: str, registrable: str) -> None:
    domain = READER.read(name)

    assert domain is not None
    assert domain.name == published
    assert domain.registrable == registrable


@pytest.mark.parametrize(
    "name",
    [
        "my-tunnel", "com", "", ".", "..", "*", "*.", "web.v2", "app.unknown-ending", "192.0.2.7", "a.1",
        "-a.example.com", "a-.example.com", "a..example.com", "a b.example.com", "*.*.example.com", "x.*.example.com",
        "r3---sn.example.com", "xn--zzzzzz999.example.com", "a" * 64 + ".example.com", "[::1].com", "a/b.example.com",
        "tunnels.host.com", "x.tunnels.host.com", "TUNNELS.host.com", "*.tunnels.host.com", "\ud800.com",
        "a.example.com\n", "\0.example.com", "a@b.example.com", "a:80.ex.com", "a_b.example.de", "é" * 5000 + ".com",
    ],
)  # fmt: skip
def test_any_other_name_is_left_to_others(name: str) -> None:
    assert READER.read(name) is None


@pytest.mark.parametrize("name", ["co.uk", "*.com", "*.co.uk", "github.io", "*.internal", "*.host.com"])
def test_a_name_that_nobody_may_have_alone_is_refused(name: str) -> None:
    with pytest.raises(NotPublishable):
        READER.read(name)


def test_wildcards_can_be_turned_off() -> None:
    reader = DomainReader("tunnels.host.com", wildcards=False)

    with pytest.raises(NotPublishable):
        reader.read("*.preview.example.com")


def test_a_host_whose_record_has_no_place_in_dns_is_refused() -> None:
    label = "a" * 40 + "."
    fits = "b" * (MAX_HOST - 5 * 41 - len(".example.com")) + "." + label * 5 + "example.com"

    assert READER.read(fits) is not None
    with pytest.raises(NotPublishable):
        READER.read("b" + fits)


def test_a_wildcard_is_proved_at_the_name_it_stands_below() -> None:
    assert Domain("preview.example.com", "example.com", wildcard=True).records(False) == (
        "_tunnel.preview.example.com",
    )


def test_parents_are_looked_at_down_to_the_registrable_one_and_never_the_public_suffix() -> None:
    domain = READER.read("a.b.example.co.uk")

    assert domain is not None
    assert domain.records(True) == ("_tunnel.a.b.example.co.uk", "_tunnel.b.example.co.uk", "_tunnel.example.co.uk")
    assert READER.read("example.co.uk").records(True) == ("_tunnel.example.co.uk",)  # type: ignore[union-attr]


def test_a_deep_name_causes_five_lookups_at_most() -> None:
    domain = READER.read("a." * 60 + "example.com")

    assert domain is not None
    records = domain.records(True)
    assert len(records) == 5
    assert records[0] == domain.record
    assert records[-1] == "_tunnel.example.com"
