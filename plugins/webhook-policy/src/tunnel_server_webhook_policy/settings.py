"""The settings, as ``TUNNEL_SERVER_WEBHOOK_POLICY_<NAME>``."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

from tunnel_server import Setting, reading

_FIELD = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,256}")
_PATTERN = re.compile(r"[a-z0-9_.*?-]{1,253}")
MIN_SECRET = 16  # characters
MAX_SECRETS = 4


def secrets(value: str) -> tuple[str, ...]:
    """Read secrets separated by blanks; the text of an error never shows one."""
    found = tuple(dict.fromkeys(value.split()))
    if not 1 <= len(found) <= MAX_SECRETS:
        raise ValueError(f"has not 1 to {MAX_SECRETS} secrets, separated by blanks")
    if any(len(secret) < MIN_SECRET or not secret.isascii() or not secret.isprintable() for secret in found):
        raise ValueError(f"has a secret shorter than {MIN_SECRET} characters, or of others than ASCII")
    return found


def url(value: str) -> str:
    """Read an absolute URL of http or https, without user information and fragment."""
    try:
        parts = urlsplit(reading.text(value))
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0 and value.isascii()
    except ValueError:
        good = False
    if value and (not good or parts.username is not None or parts.fragment or " " in value):
        raise ValueError("is not a plain http or https URL")
    return value


def is_loopback(address: str) -> bool:
    """Tell whether a URL leads to this machine."""
    host = urlsplit(address).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def words(shape: re.Pattern[str], what: str) -> Callable[[str], tuple[str, ...]]:
    """Return a reader of words of one shape, in lower case, separated by commas or blanks."""

    def read(value: str) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(value.lower().replace(",", " ").split()))
        for word in found:
            if shape.fullmatch(word) is None:
                raise ValueError(f"has {word!r}, which is not {what}")
        return found

    return read


KINDS = ("client", "tunnel", "request")
EVENTS = ("tunnel_opened", "tunnel_closed", "request_finished")
PARTS = ("method", "host", "path", "query", "scheme", "visitor")
_ON_FAILURE = reading.choice("refuse", "allow")

SETTINGS = [
    Setting(
        name="url", help="endpoint that is asked", read=url, example="https://policy.example.com/hook", required=True
    ),
    Setting(
        name="secrets",
        help="secrets that sign what is sent, separated by blanks; each makes a signature, so that they can be changed",
        read=secrets,
        default=(),
        limits="1 to 4, each of 16 characters or more",
        secret=True,
        required=True,
    ),
    Setting(
        name="decide",
        help="what the endpoint decides: client, tunnel, request",
        default=("client",),
        read=reading.several(*KINDS),
        limits="any of client, tunnel, request",
    ),
    Setting(
        name="on_client_failure",
        help="what happens to a client when the endpoint fails; allow lets anybody in",
        default="refuse",
        read=_ON_FAILURE,
        limits="refuse or allow",
    ),
    Setting(
        name="on_tunnel_failure",
        help="what happens to a forward request when the endpoint fails",
        default="refuse",
        read=_ON_FAILURE,
        limits="refuse or allow",
    ),
    Setting(
        name="on_request_failure",
        help="what happens to a visitor's request when the endpoint fails; allow leaves it to other policies",
        default="refuse",
        read=_ON_FAILURE,
        limits="refuse or allow",
    ),
    Setting(
        name="insecure",
        help="where http is enough: nowhere (none), on this machine (loopback), or anywhere (any)",
        default="none",
        read=reading.choice("none", "loopback", "any"),
        limits="none, loopback or any",
    ),
    Setting(
        name="ca_file", help="PEM file of the CAs that the endpoint's certificate is checked with, not the system's"
    ),
    Setting(
        name="signed_answers",
        help="whether answers, too, have to be signed",
        default=False,
        read=reading.boolean,
    ),
    Setting(
        name="timeout",
        help="seconds for one question, waiting for a connection included; keep it below hook_timeout",
        default=2.0,
        read=reading.duration(0.05, 30),
        limits="0.05 to 30 s",
    ),
    Setting(
        name="connections",
        help="connections to the endpoint at once",
        default=20,
        read=reading.whole(1, 1000),
        limits="1 to 1000",
    ),
    Setting(
        name="breaker_failures",
        help="failures in a row after which the endpoint is left alone; so it is when half of four times as many fail",
        default=5,
        read=reading.whole(1, 1000),
        limits="1 to 1000",
    ),
    Setting(
        name="breaker_pause",
        help="time until an endpoint left alone is tried again",
        default=10.0,
        read=reading.duration(0.1, 3600),
        limits="0.1 s to 1 h",
    ),
    Setting(
        name="cache_answers",
        help="answers that are remembered, of each kind",
        default=10_000,
        read=reading.whole(0, 1_000_000),
        limits="0 to 1,000,000",
    ),
    Setting(
        name="cache_longest",
        help="longest time that an answer is remembered, whatever its cacheSeconds",
        default=300.0,
        read=reading.duration(0, 86_400),
        limits="0 to 24 h",
    ),
    Setting(
        name="request_tunnels",
        help="tunnels whose requests are asked for: labels or host names, with * and ?",
        default=("*",),
        read=words(_PATTERN, "a pattern of names"),
        example="admin-*, *.example.com",
    ),
    Setting(
        name="request_parts",
        help="what is told of a request; the less, the more often a remembered answer fits",
        default=("method", "path", "visitor"),
        read=reading.several(*PARTS),
        limits="any of " + ", ".join(PARTS),
    ),
    Setting(
        name="forward_headers",
        help="header fields of a request that are told; cookie and authorization only if they are named here",
        default=(),
        read=words(_FIELD, "a name of a field"),
        example="user-agent, x-api-key",
    ),
    Setting(
        name="events",
        help="events that are posted",
        default=(),
        read=reading.several(*EVENTS),
        limits="any of " + ", ".join(EVENTS),
    ),
    Setting(
        name="events_url",
        help="endpoint that gets the events, url if there is none",
        read=url,
        example="https://policy.example.com/events",
    ),
    Setting(
        name="events_queue",
        help="events that wait at most; further ones are dropped",
        default=10_000,
        read=reading.whole(1, 1_000_000),
        limits="1 to 1,000,000",
    ),
    Setting(
        name="events_batch",
        help="events in one post",
        default=100,
        read=reading.whole(1, 1000),
        limits="1 to 1000",
    ),
    Setting(
        name="events_retry_for",
        help="time for which a post is tried again",
        default=300.0,
        read=reading.duration(0, 86_400),
        limits="0 to 24 h",
    ),
]
