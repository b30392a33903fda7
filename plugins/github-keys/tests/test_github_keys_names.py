"""Names and URLs are checked before anything is asked with them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tunnel_server_github_keys.names import (
    github_organisations,
    github_users,
    gitlab_groups,
    gitlab_users,
    https_url,
)


def test_names_are_separated_by_commas_or_blanks_and_each_counts_once() -> None:
    assert github_users("octocat, hubot octocat") == ("octocat", "hubot")
    assert github_organisations("acme acme/platform-team") == ("acme", "acme/platform-team")
    assert gitlab_users("jane.doe _x") == ("jane.doe", "_x")
    assert gitlab_groups("acme/tools/infra") == ("acme/tools/infra",)


@pytest.mark.parametrize("read", [github_users, github_organisations, gitlab_users, gitlab_groups])
@pytest.mark.parametrize(
    "name", ["..", "../admin", "a/../b", "/a", "a/", "a?b", "a#b", "a%2fb", "a:b", "a@b", "-a", "a\\b", "é", "x" * 300]
)
def test_a_name_that_would_lead_elsewhere_is_refused(read: Callable[[str], object], name: str) -> None:
    with pytest.raises(ValueError, match="which is no"):
        read(name)


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("https://ghe.example.com/api/v3/", "https://ghe.example.com/api/v3"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://localhost", "http://localhost"),
    ],
)
def test_a_url_is_https_or_of_this_machine(value: str, url: str) -> None:
    assert https_url(value) == url


@pytest.mark.parametrize(
    "value",
    [
        "",
        "github.com",
        "ftp://github.com",
        "https://",
        "https://u:p@github.com",
        "https://github.com?x=1",
        "https://github.com#x",
        "https://github.com:99999",
        "https://git hub.com",
        "http://github.com",
        "http://127.0.0.1.evil.org",
    ],
)
def test_any_other_url_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|has) "):
        https_url(value)
