"""Which host names a CA would sign."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel_server.domain.signable import parent, unsignable


@pytest.mark.parametrize(
    "host",
    ["example-shop.com", "a.b.c.example.co.uk", "xn--mnchen-3ya.de", "1.example.de", "a" * 63 + ".com", "3com.com",
     ".".join(["a" * 49] * 4 + ["b" * 49 + ".io"])],
)  # fmt: skip
def test_a_public_name_is_signable(host: str) -> None:
    assert unsignable(host) is None


@pytest.mark.parametrize(
    "host",
    ["", ".", "a..com", ".example.de", "example.de.", "a_b.example.de", "-a.example.de", "a-.example.de", "A.de",
     "a" * 64 + ".com", ".".join(["a" * 49] * 5 + ["comm"]), "1.2.3.4", "[::1]", "::1", "a.example.1", "*.example.de",
     "münchen.de", "xn--.de", "xn--a-.de", "ab--cd.de", "xn--99999999999.de", "a/b.de", "a\0b.de", "a b.de", "a.de\n",
     "a.*.de", "*", "*.*.de", "../../etc", "x--y.."],
)  # fmt: skip
def test_what_no_ca_signs_is_not_signable_even_in_private(host: str) -> None:
    assert unsignable(host) is not None
    assert unsignable(host, private_ca=True) is not None


@pytest.mark.parametrize(
    "host",
    ["localhost", "intranet", "web.localhost", "a.test", "a.local", "a.internal", "a.example", "example.com",
     "www.example.org", "a.onion", "router.lan", "1.10.in-addr.arpa"],
)  # fmt: skip
def test_a_name_of_a_private_network_is_signable_by_a_private_ca_only(host: str) -> None:
    assert unsignable(host) is not None
    assert unsignable(host, private_ca=True) is None


def test_a_wildcard_is_signable_by_dns_only_and_not_for_a_whole_top_level_domain() -> None:
    assert unsignable("*.tunnels.de", dns=True) is None
    assert unsignable("*.de", dns=True) is not None
    assert unsignable("*.a.*.de", dns=True) is not None


@given(st.text(max_size=300))
def test_what_is_signable_is_a_plain_file_name_and_no_name_makes_it_raise(host: str) -> None:
    if unsignable(host, private_ca=True, dns=True) is None:
        assert len(host.encode()) <= 253
        assert "/" not in host
        assert not host.startswith(".")
        assert host.isascii() and host.isprintable() and host == host.lower()


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("a.b.example.de", "example.de"),
        ("example.de", "example.de"),
        ("*.example.de", "example.de"),
        ("a.b.co.uk", "b.co.uk"),
        ("co.uk", "co.uk"),
        ("a.co.com", "co.com"),
        ("localhost", "localhost"),
    ],
)
def test_a_host_counts_to_its_registered_domain(host: str, domain: str) -> None:
    assert parent(host) == domain
