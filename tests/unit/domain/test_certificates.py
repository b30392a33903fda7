from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel_server.domain.certificates import CertificateTable, Validity, covered, covers, normalised, validity

DAY = 86400.0


@dataclass(frozen=True)
class Cert:
    names: tuple[str, ...]
    not_after: float = 100.0
    not_before: float = 0.0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web.tunnels.test", "web.tunnels.test"),
        ("WEB.Tunnels.TEST.", "web.tunnels.test"),
        ("localhost", "localhost"),
        ("xn--mnchen-3ya.test", "xn--mnchen-3ya.test"),
        ("my_app-.tunnels.test", "my_app-.tunnels.test"),
        ("1.tunnels.t3st", "1.tunnels.t3st"),
        ("a" * 63 + ".test", "a" * 63 + ".test"),
    ],
)
def test_a_name_is_compared_in_lower_case_without_its_last_dot(name: str, expected: str) -> None:
    assert normalised(name) == expected


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".test", "a..test", "a.test..", "a" * 64 + ".test", "a." * 127 + "test", "a" * 1_000_000,
     "mün.test", "\u212aelvin.test", "a\x00.test", "a\n.test", "a.test\n", "*.test", "a b.test", "a.test:443",
     "../../etc/passwd", "[::1]", "::1", "127.0.0.1", "10.1", "a.256", "\ud800.test", "a%00.test"],
)  # fmt: skip
def test_what_is_no_name_matches_nothing(name: str) -> None:
    assert normalised(name) is None


@given(st.text(max_size=300))
def test_whatever_a_peer_makes_up_is_a_plain_name_or_none(name: str) -> None:
    plain = normalised(name)

    assert plain is None or (plain == normalised(plain) and plain.isascii() and plain == plain.lower())


def test_refusing_a_crafted_name_takes_no_time() -> None:
    crafted = ["a." * 126 + "!", "a" * 253, "1." * 126 + "1", "-" * 254, "." * 254]
    began = time.perf_counter()

    for _ in range(200):
        assert all(normalised(name) is None for name in crafted)

    assert time.perf_counter() - began < 0.5


def test_a_certificate_stands_for_its_plain_and_wildcard_names_each_once() -> None:
    patterns = ["A.test", "a.test.", "*.B.test", "w*.c.test", "*", "*.*.test", "a.*.test", "bad name", "1.2.3.4", "*."]

    assert covered(patterns) == ("a.test", "*.b.test")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.b.test", True),
        ("b.test", False),
        ("x.a.b.test", False),
        ("c.test", True),
        ("a.c.test", False),
        ("test", False),
    ],
)
def test_a_wildcard_covers_exactly_one_label(name: str, expected: bool) -> None:
    names = covered(["*.b.test", "c.test"])

    assert covers(names, name) is expected
    assert (CertificateTable([Cert(names)]).find(name) is not None) is expected


def test_the_very_name_stands_before_a_wildcard() -> None:
    wild, exact = Cert(("*.b.test",), not_after=1000.0), Cert(("a.b.test",), not_after=10.0)
    table = CertificateTable([wild, exact])

    assert (table.find("a.b.test"), table.find("c.b.test")) == (exact, wild)


@pytest.mark.parametrize("turned", [False, True])
def test_of_two_with_a_name_the_one_that_ends_last_answers(turned: bool) -> None:
    early, late = Cert(("a.test",), 50.0), Cert(("a.test", "b.test"), 60.0)

    assert CertificateTable([late, early] if turned else [early, late]).find("a.test") is late


@pytest.mark.parametrize("turned", [False, True])
def test_one_that_has_not_begun_waits_for_its_time(turned: bool) -> None:
    now, next_one = Cert(("a.test",), 50.0), Cert(("a.test",), 90.0, not_before=40.0)
    both = [next_one, now] if turned else [now, next_one]

    assert CertificateTable(both, now=39.0).find("a.test") is now
    assert CertificateTable(both, now=40.0).find("a.test") is next_one


def test_the_first_one_is_the_default_and_an_unknown_name_finds_none() -> None:
    first = Cert(("a.test",), 1.0)
    table = CertificateTable([first, Cert(("b.test",), 2.0)])

    assert (table.default, table.find("c.test")) == (first, None)
    assert CertificateTable[Cert]().default is None


def test_ten_thousand_lookups_are_cheap_with_ten_thousand_certificates() -> None:
    table = CertificateTable(Cert((f"h{i}.test", f"*.h{i}.test")) for i in range(10_000))
    began = time.perf_counter()

    for i in range(10_000):
        assert table.find(f"h{i}.test") and table.find(f"a.h{i}.test") and not table.find(f"z{i}.test")

    assert time.perf_counter() - began < 1.0


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (-1.0, Validity.NOT_YET),
        (0.0, Validity.GOOD),
        (86 * DAY, Validity.GOOD),
        (86 * DAY + 1, Validity.ENDS_SOON),
        (100 * DAY - 1, Validity.ENDS_SOON),
        (100 * DAY, Validity.OVER),
    ],
)
def test_a_certificate_is_warned_of_in_its_last_fourteen_days(now: float, expected: Validity) -> None:
    assert validity(Cert((), not_after=100 * DAY), now) is expected
