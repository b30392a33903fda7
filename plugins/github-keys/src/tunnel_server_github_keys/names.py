"""Names of users, organisations and groups, and the addresses of servers: checked before they go into a URL."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

_GITHUB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")  # 39 characters, more with the suffix of an enterprise
_TEAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,99})?")
_GITLAB = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
_GROUP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}){0,19}")


def is_github_user(name: str) -> bool:
    """Return whether ``name`` can be a user of GitHub."""
    return _GITHUB.fullmatch(name) is not None


def is_gitlab_user(name: str) -> bool:
    """Return whether ``name`` can be a user of GitLab."""
    return _GITLAB.fullmatch(name) is not None


def _names(shape: re.Pattern[str], what: str) -> Callable[[str], tuple[str, ...]]:
    def read(value: str) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(value.replace(",", " ").split()))
        for name in found:
            if shape.fullmatch(name) is None:
                raise ValueError(f"has {name[:80]!r}, which is no {what}")
        return found

    return read


github_users = _names(_GITHUB, "user of GitHub")
github_organisations = _names(_TEAM, "organisation of GitHub, nor one with / and the slug of a team")
gitlab_users = _names(_GITLAB, "user of GitLab")
gitlab_groups = _names(_GROUP, "path of a group of GitLab")


def https_url(value: str) -> str:
    """A URL without query or user, its ``/`` at the end removed; ``http`` only to this machine.

    Whoever can change what comes over plain HTTP could add keys.
    """
    url = urlsplit(value)
    try:
        host, _ = url.hostname, url.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if url.scheme not in ("http", "https") or not host or url.query or url.fragment or "@" in url.netloc:
        raise ValueError("is not https://host[:port][/path]")
    if any(character.isspace() or ord(character) < 33 for character in value):
        raise ValueError("has blanks or control characters")
    if url.scheme == "http" and not _is_local(host):
        raise ValueError("is not https, without which anybody on the way could add keys")
    return value.rstrip("/")


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
