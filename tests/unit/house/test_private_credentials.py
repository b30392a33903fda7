from __future__ import annotations

from base64 import b64encode

import pytest

from tunnel_server.house.private_tunnels.credentials import (
    MAX_SESSIONS,
    PROFILE_USER,
    Ambiguous,
    Explicit,
    cookies,
    explicit,
)


def basic(text: str) -> str:
    return "Basic " + b64encode(text.encode()).decode()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_bearer_token_is_found(scheme: str) -> None:
    assert explicit([f"{scheme}  a.b.c "]) == Explicit("a.b.c", is_bearer=True)


def test_a_token_is_the_password_of_one_user() -> None:
    assert explicit([basic(f"{PROFILE_USER}:a.b.c")]) == Explicit("a.b.c", is_bearer=False)


@pytest.mark.parametrize(
    "field",
    [
        basic("me:a.b.c"),
        basic(PROFILE_USER),
        basic(PROFILE_USER.upper() + ":a.b.c"),
        "Basic",
        "Basic é",
        "Basic !!!",
        'Digest username="x"',
        "",
        "a.b.c",
    ],
)
def test_what_is_meant_for_the_service_is_left_to_it(field: str) -> None:
    assert explicit([field]) is None


def test_two_fields_are_one_too_many() -> None:
    with pytest.raises(Ambiguous):
        explicit(["Bearer a", "Bearer b"])


def test_all_cookies_of_a_name_are_found_and_no_others() -> None:
    fields = ["a=1; b=2;a=3", " a=4", "xa=5; a =6; A=7; a", "c=a=8"]

    assert cookies(fields, "a") == ["1", "3", "4"]


def test_a_flood_of_cookies_is_not_looked_at() -> None:
    assert len(cookies(["; ".join(["a=1"] * 1000)], "a")) == MAX_SESSIONS
