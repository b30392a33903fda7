"""The settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunnel_server import Setting, reading
from tunnel_server_github_keys.forges import Forge, GitHub, GitLab
from tunnel_server_github_keys.names import (
    github_organisations,
    github_users,
    gitlab_groups,
    gitlab_users,
    https_url,
)

_NAMES = "names separated by commas or spaces"

_WHO = (
    Setting(name="users", help="Users of GitHub who may log in.", default=(), read=github_users, limits=_NAMES),
    Setting(
        name="organisations",
        help="Organisations of GitHub, or teams as organisation/team, whose members may log in.",
        default=(),
        read=github_organisations,
        limits=_NAMES,
    ),
    Setting(
        name="token",
        help="A token of GitHub that may read members; without one only public members are seen.",
        secret=True,
    ),
    Setting(name="gitlab_users", help="Users of GitLab who may log in.", default=(), read=gitlab_users, limits=_NAMES),
    Setting(
        name="gitlab_groups",
        help="Groups of GitLab whose members, inherited ones too, may log in.",
        default=(),
        read=gitlab_groups,
        limits="paths separated by commas or spaces",
    ),
    Setting(name="gitlab_token", help="A token of GitLab that may read the API.", secret=True),
)

_WHERE = (
    Setting(name="url", help="Where GitHub's keys are.", default="https://github.com", read=https_url),
    Setting(
        name="api_url",
        help="GitHub's API; of an enterprise server https://<host>/api/v3.",
        default="https://api.github.com",
        read=https_url,
    ),
    Setting(name="gitlab_url", help="Where GitLab is.", default="https://gitlab.com", read=https_url),
    Setting(name="proxy", help="An HTTP proxy for all of that.", example="http://proxy.internal:3128", secret=True),
)

_HOW = (
    Setting(
        name="interval",
        help="Time between two rounds in which everything is asked for.",
        default=600.0,
        read=reading.duration(10, 86400),
        limits="10 s to 24 h",
    ),
    Setting(
        name="recheck",
        help="Least time between rounds that keys nobody knows may start; 0 for none of these.",
        default=60.0,
        read=reading.duration(0, 3600),
        limits="0 to 1 h",
    ),
    Setting(
        name="max_stale",
        help="How long keys and memberships count that cannot be confirmed, in an outage for example.",
        default=86400.0,
        read=reading.duration(60, 90 * 86400),
        limits="1 m to 2160 h, not less than interval",
    ),
    Setting(
        name="cache",
        help="File that keeps what is known over a restart; empty for none.",
        default="github-keys/cache.json",
    ),
    Setting(
        name="unlisted",
        help="What happens to a key of nobody who is allowed: refuse it, or pass it on to other plugins.",
        default="refuse",
        read=reading.choice("refuse", "pass"),
        limits="refuse or pass",
    ),
)

SETTINGS: Sequence[Setting] = (*_WHO, *_WHERE, *_HOW)


def forges_of(settings: Mapping[str, Any]) -> tuple[Forge, ...]:
    """Return those forges that have somebody to ask for.

    Raises:
        ValueError: nobody is allowed, or the times contradict each other.
    """
    github = GitHub(
        settings["url"], settings["api_url"], settings["users"], settings["organisations"], settings["token"]
    )
    gitlab = GitLab(
        settings["gitlab_url"], settings["gitlab_users"], settings["gitlab_groups"], settings["gitlab_token"]
    )
    forges: tuple[Forge, ...] = (github, gitlab)
    wanted = tuple(forge for forge in forges if forge.users or forge.groups)
    if not wanted:
        raise ValueError("nobody is allowed: set users, organisations, gitlab_users or gitlab_groups")
    if settings["max_stale"] < settings["interval"]:
        raise ValueError("max_stale is less than interval, so that keys would be lost between two rounds")
    return wanted
