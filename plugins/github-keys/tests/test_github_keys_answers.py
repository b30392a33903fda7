"""Reading what the forges answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tunnel_server_github_keys.forges import (
    MAX_KEYS,
    PAGE,
    GitHub,
    GitLab,
    Unreadable,
    read_keys,
    read_members,
)

NewPerson = Callable[..., Any]
GITHUB = GitHub("https://github.com", "https://api.github.com", token="t0ken")
GITLAB = GitLab("https://gitlab.com", token="t0ken")


def test_keys_are_read_with_or_without_comments_and_each_counts_once(new_person: NewPerson) -> None:
    ada, bob = new_person(), new_person("ecdsa-sha2-nistp256")
    page = f"{ada.public} ada (gitlab.com)\r\n\n{bob.public}\n{ada.public}\n"

    assert read_keys(page.encode()) == (ada.blob, bob.blob)


def test_keys_of_unknown_types_and_broken_ones_are_left_out(new_person: NewPerson) -> None:
    ada = new_person()
    page = f"ssh-dss AAAA\nssh-ed25519 AAAA\nssh-rsa {'A' * 100_000}\n{ada.public}\n"

    assert read_keys(page.encode()) == (ada.blob,)
    assert read_keys(b"ssh-dss AAAA\n") == ()
    assert read_keys(b"") == ()


@pytest.mark.parametrize("page", [b"<html>Sign in</html>", b"{}", b"\xff\xfe\x00", b"Not found"])
def test_a_page_that_is_something_else_is_no_page_without_keys(page: bytes) -> None:
    with pytest.raises(Unreadable):
        read_keys(page)


def test_a_page_with_too_many_keys_is_cut(new_person: NewPerson) -> None:
    ada, bob = new_person(), new_person()
    page = f"{ada.public}\n" * MAX_KEYS + bob.public

    assert read_keys(page.encode()) == (ada.blob,)


def test_members_are_read_and_those_that_lead_elsewhere_or_are_blocked_left_out() -> None:
    github = [{"login": "octocat"}, {"login": "../admin"}, {"login": 7}, {}]
    gitlab = [
        {"username": "jane", "state": "active"},
        {"username": "joe", "state": "blocked"},
        {"username": "jim", "state": "active", "membership_state": "awaiting"},
    ]

    assert read_members(GITHUB, json.dumps(github).encode()) == (("octocat",), False)
    assert read_members(GITLAB, json.dumps(gitlab).encode()) == (("jane",), False)


def test_a_full_page_may_have_another_behind_it() -> None:
    entries = [{"login": "octocat"}] * PAGE

    assert read_members(GITHUB, json.dumps(entries).encode())[1]


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"[" * 100_000, b"null", b"\xff"])
def test_a_list_of_members_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(Unreadable):
        read_members(GITHUB, body)


def test_addresses_are_those_of_the_two_apis() -> None:
    assert GITHUB.keys_url("octocat") == "https://github.com/octocat.keys"
    assert GITHUB.members_url("acme", 2) == "https://api.github.com/orgs/acme/members?per_page=100&page=2"
    team = "https://api.github.com/orgs/acme/teams/ops/members?per_page=100&page=1"
    assert GITHUB.members_url("acme/ops", 1) == team
    group = "https://gitlab.com/api/v4/groups/acme%2Ftools/members/all?per_page=100&page=1"
    assert GITLAB.members_url("acme/tools", 1) == group


def test_a_token_is_not_shown() -> None:
    assert "t0ken" not in repr(GITHUB) + repr(GITLAB)
    assert GITHUB.api_headers["Authorization"] == "Bearer t0ken"
    assert GITLAB.api_headers["PRIVATE-TOKEN"] == "t0ken"
