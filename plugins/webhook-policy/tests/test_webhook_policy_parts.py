"""Signatures, breakers, caches, crowds, answers and settings."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from math import inf
from typing import Any

import pytest
from tunnel_server_webhook_policy import WebhookPolicy
from tunnel_server_webhook_policy.answers import Changes, Malformed, read_client, read_request, read_tunnel
from tunnel_server_webhook_policy.breaker import Breaker, State, Ticket
from tunnel_server_webhook_policy.cache import Cache
from tunnel_server_webhook_policy.crowd import Crowd, network
from tunnel_server_webhook_policy.settings import PARTS, secrets, url
from tunnel_server_webhook_policy.signing import BadSignature, sign, verify

from tunnel_server import Accept, Access, Allow, Challenge, ForwardRequest, Login, Refuse, Reject

ONE, TWO = "the first secret, long", "the second secret, long"


class Clock:
    """Stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


# Signatures


def test_a_body_is_signed_by_every_secret_as_documented() -> None:
    wanted = [hmac.new(secret.encode(), b"1700000000.{}", hashlib.sha256).hexdigest() for secret in (ONE, TWO)]

    assert sign((ONE, TWO), b"{}", 1700000000) == f"t=1700000000,v1={wanted[0]},v1={wanted[1]}"


def test_either_side_may_change_its_secret_first() -> None:
    verify((TWO,), sign((ONE, TWO), b"{}", 100), b"{}", 100)
    verify((ONE, TWO), sign((ONE,), b"{}", 100), b"{}", 399)


@pytest.mark.parametrize(
    ("header", "body", "now"),
    [
        (sign((TWO,), b"{}", 100), b"{}", 100),
        (sign((ONE,), b"{}", 100), b"{ }", 100),
        (sign((ONE,), b"{}", 100), b"{}", 401),
        (sign((ONE,), b"{}", 500), b"{}", 100),
        (sign((ONE,), b"{}", 100).replace("t=100", "t=101"), b"{}", 100),
        (sign((ONE,), b"{}", 100) + ",t=100", b"{}", 100),
        ("", b"{}", 100),
        ("t=100", b"{}", 100),
        ("t=x,v1=y", b"{}", 100),
        ("t=²,v1=y", b"{}", 100),
        ("t=" + "9" * 400 + ",v1=y", b"{}", 100),
        ("v1=ü,t=100", b"{}", 100),
        ("t=100," + "v1=a," * 9999, b"{}", 100),
    ],
)
def test_a_signature_that_is_not_ours_fresh_and_whole_is_refused(header: str, body: bytes, now: float) -> None:
    with pytest.raises(BadSignature):
        verify((ONE,), header, body, now)


# Breakers


def fail(breaker: Breaker, times: int = 1, failed: bool | None = True) -> None:
    for _ in range(times):
        ticket = breaker.enter()
        assert ticket is not None
        breaker.leave(ticket, failed)


def test_a_breaker_opens_after_so_many_failures_in_a_row(clock: Clock) -> None:
    breaker = Breaker(3, 10, clock)

    fail(breaker, 2)
    fail(breaker, failed=False)
    fail(breaker, 3)

    assert breaker.state is State.OPEN
    assert breaker.enter() is None
    assert breaker.retry_after == 11


def test_a_breaker_opens_when_half_of_the_last_questions_failed(clock: Clock) -> None:
    breaker = Breaker(3, 10, clock)

    for _ in range(6):
        fail(breaker, failed=False)
        fail(breaker)

    assert breaker.state is State.OPEN


def test_less_than_half_is_not_enough(clock: Clock) -> None:
    breaker = Breaker(3, 10, clock)

    for _ in range(60):
        fail(breaker, 2, failed=False)
        fail(breaker)

    assert breaker.state is State.CLOSED


def test_what_says_nothing_of_the_endpoint_moves_nothing(clock: Clock) -> None:
    breaker = Breaker(1, 10, clock)

    fail(breaker, 9, failed=None)

    assert breaker.state is State.CLOSED


def test_one_question_finds_out_whether_the_endpoint_is_back(clock: Clock) -> None:
    breaker = Breaker(1, 10, clock)
    fail(breaker)
    clock.now = 10

    assert [breaker.enter(), breaker.enter()] == [Ticket.PROBE, None]
    breaker.leave(Ticket.PROBE, False)

    assert [breaker.enter(), breaker.enter()] == [Ticket.USUAL, Ticket.USUAL]


def test_a_probe_that_fails_begins_the_pause_anew(clock: Clock) -> None:
    breaker = Breaker(1, 10, clock)
    fail(breaker)
    clock.now = 10
    fail(breaker)

    clock.now = 19.9
    assert breaker.enter() is None
    clock.now = 20
    assert breaker.enter() is Ticket.PROBE


def test_a_probe_that_was_given_up_leaves_room_for_the_next(clock: Clock) -> None:
    breaker = Breaker(1, 10, clock)
    fail(breaker)
    clock.now = 10

    fail(breaker, failed=None)

    assert breaker.enter() is Ticket.PROBE


@pytest.mark.parametrize("failed", [False, True])
def test_the_outcome_of_a_question_of_before_changes_nothing(clock: Clock, failed: bool) -> None:
    breaker = Breaker(1, 10, clock)
    early = breaker.enter()
    assert early is Ticket.USUAL
    fail(breaker)
    clock.now = 10
    assert breaker.enter() is Ticket.PROBE

    breaker.leave(early, failed)

    assert breaker.state is State.HALF_OPEN
    assert breaker.enter() is None  # the probe is still under way


# Caches and crowds


def test_a_cache_forgets_with_time_and_what_was_used_longest_ago(clock: Clock) -> None:
    cache: Cache[int] = Cache(2, clock)
    cache.put(b"a", 1, 10)
    cache.put(b"b", 2, 10)
    cache.get(b"a")
    cache.put(b"c", 3, 5)
    cache.put(b"d", 4, 0)

    assert [cache.get(key) for key in (b"a", b"b", b"c", b"d")] == [1, None, 3, None]
    clock.now = 5
    assert cache.get(b"c") is None
    assert len(cache) == 1


def test_one_source_has_its_share_and_all_have_a_limit() -> None:
    crowd = Crowd(3, 2)

    assert [crowd.enter("a"), crowd.enter("a"), crowd.enter("a"), crowd.enter("b"), crowd.enter("c")] == [
        True, True, False, True, False,
    ]  # fmt: skip
    crowd.leave("a")
    assert crowd.enter("c")


def test_an_ipv6_network_of_64_bits_is_one_source() -> None:
    assert network("2001:db8::1") == network("2001:db8::") == network("2001:db8::/64")
    assert network("::ffff:192.0.2.7") == network("192.0.2.7")


# Answers


def client(**members: Any) -> Any:
    return read_client(json.dumps(members).encode(), now=1000.0)


def test_a_client_is_accepted_with_attributes_until_it_expires() -> None:
    told = client(decision="accept", attributes={"team": "a"}, expiresAt=1010, cacheSeconds=60)

    assert told.value == Accept(expires_at=1010)
    assert told.value.attributes == {"webhook-policy.team": "a"}
    assert told.seconds == 10  # never good for longer than what it says


def test_a_client_is_rejected_or_left_to_others() -> None:
    assert client(version=1, decision="reject", reason="No.").value == Reject("No.")
    assert client(decision="none").value is None
    assert client(decision="accept", reason=None, attributes=None).value == Accept(expires_at=inf)


def test_a_tunnel_is_accepted_with_changes() -> None:
    told = read_tunnel(b'{"decision":"accept","access":"private","meta":null,"httpsOnly":true}', 0)

    assert isinstance(told.value, Changes)
    changed = told.value.of(ForwardRequest.parse("/web#meta=e30"))
    assert (changed.access, changed.meta, changed.https_only) == (Access.PRIVATE, None, True)
    assert read_tunnel(b'{"decision":"accept"}', 0).value.of(ForwardRequest.parse("/web#meta=e30")).meta == {}


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ({"decision": "allow", "hide": ["Authorization"]}, Allow(frozenset({"authorization"}))),
        ({"decision": "refuse", "retryAfter": 5, "reason": "N"}, Refuse(403, "N", (("Retry-After", "5"),))),
        ({"decision": "refuse"}, Refuse(403, "The policy of this server refuses this.")),
        ({"decision": "challenge", "challenge": 'Basic realm="x"', "reason": "W"}, Challenge('Basic realm="x"', "W")),
        ({"decision": "login", "location": "https://login.example.com/?a=b"}, Login("https://login.example.com/?a=b")),
        ({"decision": "none"}, None),
    ],
)  # fmt: skip
def test_a_request_is_answered_in_five_ways_or_left_to_others(answer: dict[str, Any], value: Any) -> None:
    assert read_request(json.dumps(answer).encode(), 0).value == value


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b'"accept"', b"{}", b"\xff", b'{"decision":NaN}', b"[" * 60000, b'{"decision":1}',
        b'{"decision":"allow"}', b'{"decision":"ACCEPT"}', b'{"decision":"accept","version":2}',
        b'{"decision":"reject","decision":"accept"}', b'{"decision":"accept","expiresat":5}',
        b'{"decision":"accept","expiresAt":"5"}', b'{"decision":"accept","expiresAt":1700000000000}',
        b'{"decision":"accept","expiresAt":1e999}', b'{"decision":"accept","expiresAt":true}',
        b'{"decision":"accept","cacheSeconds":-1}', b'{"decision":"accept","attributes":[]}',
        b'{"decision":"accept","attributes":{"a":1}}', b'{"decision":"accept","attributes":{"a b":"c"}}',
        b'{"decision":"reject","reason":"two\\nlines"}', b'{"decision":"reject","reason":""}',
        json.dumps({"decision": "reject", "reason": "x" * 501}).encode(),
        json.dumps({"decision": "accept", "attributes": {str(n): "" for n in range(33)}}).encode(),
    ],
)  # fmt: skip
def test_an_answer_about_a_client_that_is_not_as_agreed_is_a_failure(body: bytes) -> None:
    with pytest.raises(Malformed):
        read_client(body, 0)


@pytest.mark.parametrize(
    "members",
    [
        {"decision": "accept"}, {"decision": "refuse", "status": 200}, {"decision": "refuse", "status": 403.5},
        {"decision": "refuse", "status": 600}, {"decision": "challenge"}, {"decision": "allow", "expiresAt": 5},
        {"decision": "login"}, {"decision": "login", "location": "/path"}, {"decision": "allow", "hide": 5},
        {"decision": "login", "location": "https://a\r\nb"}, {"decision": "login", "location": "https://[x"},
        {"decision": "login", "location": "https://a/" + "b" * 5000}, {"decision": "allow", "hide": "authorization"},
        {"decision": "allow", "hide": [1]}, {"decision": "allow", "hide": ["a b"]},
        {"decision": "challenge", "challenge": "a\r\nb: c"}, {"decision": "login", "location": "javascript:x"},
    ],
)  # fmt: skip
def test_an_answer_about_a_request_that_is_not_as_agreed_is_a_failure(members: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        read_request(json.dumps(members).encode(), 0)


@pytest.mark.parametrize("members", [{"access": "secret"}, {"httpsOnly": 1}, {"name": "other"}, {"access": ["public"]}])
def test_an_answer_about_a_tunnel_that_is_not_as_agreed_is_a_failure(members: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        read_tunnel(json.dumps({"decision": "accept", **members}).encode(), 0)


# Settings


def test_secrets_are_long_and_an_error_does_not_show_them() -> None:
    assert secrets("sixteen-letters-a sixteen-letters-b") == ("sixteen-letters-a", "sixteen-letters-b")
    for text in "", "short", "sixteen-letters-ü!", " ".join(f"sixteen-letters-{n}" for n in range(5)):
        with pytest.raises(ValueError, match="secret") as raised:
            secrets(text)
        assert "letters" not in str(raised.value)


@pytest.mark.parametrize(
    "value", ["x", "ftp://a", "https://", "https://u:p@a", "https://a/#b", "https://a b", "https://a:x", "https://ü"]
)
def test_only_a_plain_url_is_taken(value: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        url(value)


@pytest.mark.parametrize(
    ("settings", "good"),
    [
        ({"url": "https://a.example"}, True),
        ({"url": "http://a.example"}, False),
        ({"url": "http://127.0.0.1:80"}, False),
        ({"url": "http://127.0.0.1:80", "insecure": "loopback"}, True),
        ({"url": "http://[::1]:80", "insecure": "loopback"}, True),
        ({"url": "http://localhost.evil.example", "insecure": "loopback"}, False),
        ({"url": "http://a.example", "insecure": "any"}, True),
        ({"url": "https://a.example", "events_url": "http://a.example"}, False),
        ({"url": "https://a.example", "ca_file": "/nowhere.pem"}, False),
    ],
)
def test_plain_http_has_to_be_wanted(settings: dict[str, str], good: bool) -> None:
    plugin = WebhookPolicy()
    values = {setting.name: setting.default for setting in plugin.register_settings()}

    def configure() -> None:
        plugin.configure({**values, "secrets": (ONE,), **settings})

    if good:
        configure()
    else:
        with pytest.raises(ValueError, match=r"https|ca_file"):
            configure()


def test_every_setting_reads_its_example() -> None:
    for setting in WebhookPolicy().register_settings():
        if setting.example:
            reader: Callable[[str], Any] = setting.read
            assert reader(setting.example)
    assert set(PARTS) >= {"method", "path", "visitor"}
