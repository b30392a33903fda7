from __future__ import annotations

import re
from typing import Any

import pytest

from tunnel_server.house.private_tunnels.sessions import (
    GUEST_AGE,
    MAX_AGE,
    TICKET_AGE,
    Role,
    Session,
    Sessions,
    Signer,
    Tickets,
)

MINE, YOURS = "urn:mine", "urn:yours"
NOW = 1_800_000_000
ADMIN = Session(Role.ADMIN, NOW + 3600)


def test_a_session_comes_back_as_it_was_made(clock: Any) -> None:
    sessions = Sessions(["secret"], clock)

    value = sessions.make(ADMIN, MINE, "")

    assert sessions.read(value, MINE, "") == ADMIN
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", value)


def test_a_session_of_one_profile_opens_nothing_of_another(clock: Any) -> None:
    sessions = Sessions(["secret"], clock)
    value = sessions.make(ADMIN, MINE, "")

    assert sessions.read(value, YOURS, "") is None


def test_a_session_of_one_host_opens_nothing_of_another(clock: Any) -> None:
    sessions = Sessions(["secret"], clock)
    value = sessions.make(ADMIN, MINE, "app.example.com")

    assert sessions.read(value, MINE, "") is None
    assert sessions.read(value, MINE, "app.example.net") is None


def test_a_session_is_over_at_its_end(clock: Any) -> None:
    sessions = Sessions(["secret"], clock)
    value = sessions.make(ADMIN, MINE, "")

    clock.now = ADMIN.expires_at - 1
    before = sessions.read(value, MINE, "")
    clock.now = ADMIN.expires_at

    assert before == ADMIN
    assert sessions.read(value, MINE, "") is None


def test_any_of_the_secrets_verifies_and_the_first_signs(clock: Any) -> None:
    old, both, new = Sessions(["old"], clock), Sessions(["new", "old"], clock), Sessions(["new"], clock)

    assert both.read(old.make(ADMIN, MINE, ""), MINE, "") == ADMIN
    assert new.read(both.make(ADMIN, MINE, ""), MINE, "") == ADMIN


def test_a_secret_that_is_no_longer_there_verifies_nothing(clock: Any) -> None:
    value = Sessions(["old"], clock).make(ADMIN, MINE, "")

    assert Sessions(["new"], clock).read(value, MINE, "") is None


def test_no_other_character_of_a_value_will_do(clock: Any) -> None:
    sessions = Sessions(["secret"], clock)
    value = sessions.make(ADMIN, MINE, "")

    for at, character in enumerate(value):
        for other in {"A", "9", ".", "é", "\ud800"} - {character}:
            assert sessions.read(value[:at] + other + value[at + 1 :], MINE, "") is None


@pytest.mark.parametrize("value", ["", ".", "..", "admin", "9999999999.admin.", "é", "\udcff", "x" * 100_000])
def test_what_we_did_not_sign_is_no_session(clock: Any, value: str) -> None:
    assert Sessions(["secret"], clock).read(value, MINE, "") is None
    assert Tickets(["secret"], clock).read(value, MINE, "app.example.com") is None


def test_a_ticket_is_no_session_and_a_session_no_ticket(clock: Any) -> None:
    sessions, tickets = Sessions(["secret"], clock), Tickets(["secret"], clock)

    assert sessions.read(tickets.make(ADMIN, MINE, "a.b"), MINE, "a.b") is None
    assert tickets.read(sessions.make(ADMIN, MINE, "a.b"), MINE, "a.b") is None


def test_a_ticket_is_good_for_its_host_and_profile_and_a_minute(clock: Any) -> None:
    tickets = Tickets(["secret"], clock)
    value = tickets.make(ADMIN, MINE, "a.b")

    at_once = tickets.read(value, MINE, "a.b")
    elsewhere = [tickets.read(value, MINE, "a.c"), tickets.read(value, YOURS, "a.b")]
    clock.now += TICKET_AGE

    assert at_once == ADMIN
    assert elsewhere == [None, None]
    assert tickets.read(value, MINE, "a.b") is None


def test_a_ticket_carries_no_session_that_is_over(clock: Any) -> None:
    tickets = Tickets(["secret"], clock)
    value = tickets.make(Session(Role.ADMIN, NOW + 10), MINE, "a.b")

    clock.now += 10

    assert tickets.read(value, MINE, "a.b") is None


@pytest.mark.parametrize(
    ("role", "token_ends", "session_ends"),
    [
        (Role.ADMIN, NOW + 60.5, NOW + 60),
        (Role.ADMIN, NOW + 10.0**12, NOW + MAX_AGE),
        (Role.ADMIN, 10.0**300, NOW + MAX_AGE),
        (Role.ADMIN, 10**400, NOW + MAX_AGE),
        (Role.ADMIN, None, NOW + 86400),
        (Role.GUEST, NOW + 3600.0, NOW + GUEST_AGE),
        (Role.GUEST, NOW + 60.0, NOW + 60),
    ],
)
def test_a_session_ends_with_its_token_if_not_before(
    clock: Any, role: Role, token_ends: float | None, session_ends: int
) -> None:
    session = Sessions(["secret"], clock).until(role, token_ends)

    assert session == Session(role, session_ends)


def test_each_purpose_has_signatures_of_its_own() -> None:
    signature = Signer(["secret"], "one").sign("text")

    assert Signer(["secret"], "one").verifies("text", signature)
    assert not Signer(["secret"], "two").verifies("text", signature)
