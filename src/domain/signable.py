"""For which host names a CA would sign a certificate."""

from __future__ import annotations

import re

from tunnel_server.domain.naming import MAX_LABEL

MAX_NAME = 253  # characters of a host name, RFC 1035 §2.3.4 in text

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
# RFC 2606, 6761, 6762, 7686, 8375, 9476, ICANN's .internal, and what private networks call themselves
_RESERVED = frozenset(
    ["test", "example", "invalid", "localhost", "local", "onion", "alt", "arpa", "internal", "intranet", "private"]
) | frozenset(["corp", "home", "lan", "localdomain", "domain", "workgroup"])
_RESERVED_NAMES = ("example.com", "example.net", "example.org")  # RFC 2606 §3
_SECOND_LEVEL = frozenset(("ac", "co", "com", "edu", "gob", "gov", "ltd", "mil", "ne", "net", "nom", "or", "org"))


def unsignable(host: str, private_ca: bool = False, dns: bool = False) -> str | None:
    """Return why no CA would sign ``host``, a name in lower case, or ``None`` if one may.

    ``private_ca`` lets names pass that mean something in a private network only; ``dns`` lets a wildcard pass,
    which is proved by DNS-01 and nothing else (RFC 8555 §7.1.3).
    """
    wildcard = host.startswith("*.")
    if wildcard and not dns:
        return "a wildcard is only signed after a DNS-01 challenge"
    name = host[2:] if wildcard else host
    if len(host) > MAX_NAME:
        return f"it is longer than {MAX_NAME} characters"
    labels = name.split(".")
    return _bad_label(labels) or (None if private_ca else _not_public(name, labels, wildcard))


def _bad_label(labels: list[str]) -> str | None:
    for label in labels:
        if not label:
            return "it has an empty label"
        if len(label) > MAX_LABEL:
            return f"it has a label longer than {MAX_LABEL} characters"
        if "_" in label:
            return "it has an underscore"
        if not _LABEL.fullmatch(label):
            return "it has a label with other characters than a-z, 0-9 and inner hyphens"
        if label[2:4] == "--" and not _is_a_label(label):  # CA/Browser Forum baseline requirements §7.1.4.2.1
            return "it has a label with two hyphens in the third place that is no internationalized one"
    if labels[-1].isdigit():
        return "it is an IP address, or ends like one"
    return None


def _is_a_label(label: str) -> bool:
    if not label.startswith("xn--"):
        return False
    try:
        text = label[4:].encode("ascii").decode("punycode")
    except ValueError:
        return False
    return not text.isascii()


def _not_public(name: str, labels: list[str], wildcard: bool) -> str | None:
    if len(labels) < 2:
        return "a top-level domain has no wildcard" if wildcard else "it has a single label"
    if labels[-1] in _RESERVED:
        return f".{labels[-1]} is reserved, no public CA signs it"
    if name.endswith(_RESERVED_NAMES) and ".".join(labels[-2:]) in _RESERVED_NAMES:
        return "it is reserved for documentation"
    return None


def parent(host: str) -> str:
    """Return the domain that a CA counts ``host`` to, by rule of thumb: its last two labels, or three as in a.co.uk.

    Where the rule is wrong, unrelated hosts share a limit; nothing else depends on it.
    """
    labels = host.split(".")
    deep = len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVEL
    return ".".join(labels[-3 if deep else -2 :])
