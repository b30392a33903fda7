"""Patterns of names and addresses."""

from __future__ import annotations

import pytest
from tunnel_server_authorized_keys.addresses import AddressPatterns
from tunnel_server_authorized_keys.patterns import NamePatterns, matches


@pytest.mark.parametrize(
    ("text", "pattern", "covered"),
    [
        ("web", "web", True),
        ("web", "w*", True),
        ("web", "*b", True),
        ("web", "*", True),
        ("", "*", True),
        ("", "?", False),
        ("web", "w?b", True),
        ("web", "we", False),
        ("we", "web", False),
        ("abcabd", "*abd", True),
        ("axbyc", "a*b*c", True),
        ("axbycd", "a*b*c", False),
        ("a.b", "a?b", True),
        ("web", "[w]eb", False),
        ("*.example.com", "?.example.com", False),
        ("*.example.com", "*.example.com", True),
        ("*.example.com", "a*.example.com", False),
    ],
)
def test_stars_and_question_marks_cover_what_they_should(text: str, pattern: str, covered: bool) -> None:
    assert matches(text, pattern) is covered


def test_a_hostile_name_and_many_stars_take_no_time_worth_mentioning() -> None:
    assert not matches("a" * 30_000, "a*" * 20 + "b")


@pytest.mark.parametrize(
    ("patterns", "asked", "published", "permitted"),
    [
        (["web"], "web", "web-5rwpwhy5", True),
        (["web"], "Web", "web-x1y2-5rwpwhy5", True),
        (["web"], "webx", "webx-5rwpwhy5", False),
        (["web-5rwpwhy5"], "web", "web-5rwpwhy5", True),
        (["api-*"], "api-v1", "api-v1-5rwpwhy5", True),
        (["*"], "anything", "anything-5rwpwhy5", True),
        (["*"], "app.example.com", "app.example.com", False),
        (["app.example.com"], "app.example.com", "app.example.com", True),
        (["*.example.com"], "app.example.com", "APP.example.com", True),
        (["*.example.com"], "x", "app.example.com.evil.org", False),
        (["*.example.com"], "x", "example.com", False),
        (["app.example.com"], "app.example.com", "evil.org", False),
        (["my.app"], "my.app", "my-app-x1y2-5rwpwhy5", True),
        (["*", "!prod*"], "prod-1", "prod-1-5rwpwhy5", False),
        (["*", "!prod*"], "web", "prod-5rwpwhy5", False),
        (["!prod"], "web", "web-5rwpwhy5", False),
        (["*.*", "!*.example.com"], "x", "app.example.com", False),
        (["aaa*"], "a" * 255, "aaaa-x1y2-5rwpwhy5", True),
        (["*z"], "a" * 255 + "z", "aaaa-x1y2-5rwpwhy5", False),
    ],
)
def test_a_name_is_permitted_by_a_pattern_of_its_kind(
    patterns: list[str], asked: str, published: str, permitted: bool
) -> None:
    assert NamePatterns.parse(patterns).permit(asked, published) is permitted


@pytest.mark.parametrize(
    ("text", "address", "permitted"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.70", False),
        ("192.0.2.0/24", "192.0.2.255", True),
        ("192.0.2.0/24", "192.0.3.0", False),
        ("192.0.2.*", "192.0.2.9", True),
        ("192.0.2.?", "192.0.2.19", False),
        ("*", "2001:db8::1", True),
        ("2001:db8::/32", "2001:db8:1::1", True),
        ("2001:DB8:*", "2001:db8:1::1", True),
        ("2001:db8::/32", "192.0.2.7", False),
        ("192.0.2.0/24,!192.0.2.7", "192.0.2.7", False),
        ("!192.0.2.7,192.0.2.0/24", "192.0.2.8", True),
        ("!192.0.2.7", "192.0.2.8", False),
        ("!192.0.2.*,*", "192.0.2.8", False),
        ("10.0.0.0/8", "::ffff:10.1.1.1", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("*", "unknown", False),
        ("*", "", False),
    ],
)
def test_an_address_is_permitted_by_one_entry_and_excluded_by_none(text: str, address: str, permitted: bool) -> None:
    assert AddressPatterns.parse(text).permit(address) is permitted
