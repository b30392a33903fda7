"""Labels under the base host that no client may have."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tunnel_server import Reject, Setting, hookimpl

MAX_NAMES = 1000  # patterns in the setting

# What people and their programs take for an address of the operator's own: mail setup, certificate authorities,
# proxy discovery (RFC 2142 §5, RFC 6186, the mail boxes of CA/B Baseline Requirements §3.2.2.4.4).
DEFAULT = (
    "admin", "administrator", "api", "auth", "autoconfig", "autodiscover", "dns", "ftp", "hostmaster", "imap", "isatap",
    "localhost", "mail", "mta-sts", "ns", "ns1", "ns2", "pop", "pop3", "postmaster", "proxy", "root", "smtp", "ssh",
    "ssl", "status", "webmaster", "wpad", "www",
)  # fmt: skip

_PATTERN = re.compile(r"[a-z0-9_*-]{1,63}")


def names(value: str) -> tuple[str, ...]:
    """Read labels separated by commas or spaces, in any case; ``*`` stands for any characters, or none."""
    found = tuple(dict.fromkeys(value.lower().replace(",", " ").split()))
    if len(found) > MAX_NAMES:
        raise ValueError(f"has more than {MAX_NAMES} names")
    for name in found:
        if _PATTERN.fullmatch(name) is None:
            raise ValueError(f"has {name[:80]!r}, which is no label; letters, digits, - and _, and * for any of them")
        if not name.strip("*"):
            raise ValueError(f"has {name!r}, which reserves every label")
    return found


class ReservedNames:
    """Rejects a tunnel that would get a reserved label. Whole host names are not its affair."""

    def __init__(self) -> None:
        self._reserved = frozenset(DEFAULT)
        self._patterns: tuple[str, ...] = ()

    @hookimpl
    def register_settings(self) -> Sequence[Setting]:
        """Declare the names."""
        return [
            Setting(
                name="reserved_names",
                help="Labels under the base host that no tunnel gets; `auth`, `api` and `proxy` are never to be had.",
                default=DEFAULT,
                read=names,
                example="www, mail, internal-*",
                limits=f"at most {MAX_NAMES} labels, separated by commas or spaces; `*` for any characters",
            )
        ]

    @hookimpl
    def configure(self, settings: Mapping[str, Any]) -> None:
        """Take the labels; names and patterns are kept apart, so that a look-up stays one."""
        found: tuple[str, ...] = settings["reserved_names"]
        self._reserved = frozenset(name for name in found if "*" not in name)
        self._patterns = tuple(name for name in found if "*" in name)

    @hookimpl
    def authorize_tunnel(self, names: tuple[str, ...]) -> Reject | None:
        """Reject the tunnel if any of its labels is reserved."""
        for name in names:
            if "." not in name and self._is_reserved(name.lower()):
                return Reject(f"the name {name!r} is reserved on this server")
        return None

    def _is_reserved(self, label: str) -> bool:
        return label in self._reserved or any(_fits(label, pattern) for pattern in self._patterns)


def _fits(label: str, pattern: str) -> bool:
    """Tell whether ``label`` fits, in time linear in both: each piece is looked for once, the first place will do."""
    first, *middle, last = pattern.split("*")
    if len(label) < len(first) + len(last) or not (label.startswith(first) and label.endswith(last)):
        return False
    at, end = len(first), len(label) - len(last)
    for piece in middle:
        found = label.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True
