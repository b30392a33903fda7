"""What GitHub and GitLab are asked, and how their answers are read."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

import asyncssh

from tunnel_server_github_keys.names import is_github_user, is_gitlab_user

MAX_KEYS = 200  # of one user
PAGE = 100  # members on one page, the most that either server gives
MAX_PAGES = 100  # of one organisation or group
MAX_LINE = 16 * 1024  # characters of a key


class Unreadable(Exception):
    """An answer that is not what was asked for."""


class Forge(Protocol):
    """A server that knows its users' keys. ``source`` is its name in attributes, logs and metrics."""

    source: str
    users: Sequence[str]
    groups: Sequence[str]

    @property
    @abstractmethod
    def api_headers(self) -> Mapping[str, str]:
        """What goes with a question about a group; nothing of it goes with one for keys."""

    @abstractmethod
    def keys_url(self, user: str) -> str:
        """Return where a user's keys are."""

    @abstractmethod
    def members_url(self, group: str, page: int) -> str:
        """Return where a page of a group's members is; pages count from 1."""

    @abstractmethod
    def member(self, entry: Mapping[str, Any]) -> str | None:
        """Return the name in one entry of a page, ``None`` for who does not count."""


@dataclass(frozen=True)
class GitHub(Forge):
    """github.com or an enterprise server: ``web`` has the keys, ``api`` the members."""

    web: str
    api: str
    users: Sequence[str] = ()
    groups: Sequence[str] = ()
    token: str = field(default="", repr=False)
    source: str = "github"

    @property
    def api_headers(self) -> Mapping[str, str]:
        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        return headers | ({"Authorization": f"Bearer {self.token}"} if self.token else {})

    def keys_url(self, user: str) -> str:
        return f"{self.web}/{user}.keys"

    def members_url(self, group: str, page: int) -> str:
        organisation, _, team = group.partition("/")
        path = f"{organisation}/teams/{team}" if team else organisation
        return f"{self.api}/orgs/{path}/members?per_page={PAGE}&page={page}"

    def member(self, entry: Mapping[str, Any]) -> str | None:
        name = entry.get("login")
        return name if isinstance(name, str) and is_github_user(name) else None


@dataclass(frozen=True)
class GitLab(Forge):
    """gitlab.com or a server of one's own at ``web``. Members of a group are those it inherits, too."""

    web: str
    users: Sequence[str] = ()
    groups: Sequence[str] = ()
    token: str = field(default="", repr=False)
    source: str = "gitlab"

    @property
    def api_headers(self) -> Mapping[str, str]:
        return {"Accept": "application/json"} | ({"PRIVATE-TOKEN": self.token} if self.token else {})

    def keys_url(self, user: str) -> str:
        return f"{self.web}/{user}.keys"

    def members_url(self, group: str, page: int) -> str:
        return f"{self.web}/api/v4/groups/{quote(group, safe='')}/members/all?per_page={PAGE}&page={page}"

    def member(self, entry: Mapping[str, Any]) -> str | None:
        name = entry.get("username")
        if entry.get("state", "active") != "active" or entry.get("membership_state", "active") != "active":
            return None
        return name if isinstance(name, str) and is_gitlab_user(name) else None


def read_members(forge: Forge, body: bytes) -> tuple[tuple[str, ...], bool]:
    """Return the names on one page of members, and whether the page is full, so that there may be another.

    Raises:
        Unreadable: it is no list of members.
    """
    try:
        entries = json.loads(body)
    except (ValueError, RecursionError):
        raise Unreadable("the list of members is no JSON") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Unreadable("the list of members is no list")
    names = (forge.member(entry) for entry in entries)
    return tuple(name for name in names if name is not None), len(entries) >= PAGE


def read_keys(body: bytes) -> tuple[bytes, ...]:
    """Return the keys on a user's page, in SSH wire format; those of types unknown here are left out.

    Raises:
        Unreadable: it has lines, and none of them is a key: a login page or an error, most likely.
    """
    lines = [line for line in body.decode("ascii", "replace").splitlines() if line.strip()]
    keys = [key for line in lines[:MAX_KEYS] if (key := _key(line)) is not None]
    if lines and not any(line.startswith(("ssh-", "ecdsa-", "sk-")) for line in lines):
        raise Unreadable("the page of keys has none, but something else")
    return tuple(dict.fromkeys(keys))


def _key(line: str) -> bytes | None:
    if len(line) > MAX_LINE:
        return None
    kind, encoded = (*line.split(None, 2), "", "")[:2]
    try:
        return asyncssh.import_public_key(f"{kind} {encoded}").public_data
    except (asyncssh.KeyImportError, ValueError):
        return None
