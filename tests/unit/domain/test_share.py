"""What each visitor may hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel_server.domain.share import Share, one_visitor


def held_by_taking_all(share: Share, visitor: str) -> int:
    held = 0
    while share.allows(visitor):
        share.take(visitor)
        held += 1
    return held


def test_a_visitor_alone_gets_half() -> None:
    assert held_by_taking_all(Share(10), "a") == 5


def test_a_second_visitor_finds_room_however_much_the_first_asked_for() -> None:
    share = Share(128)
    held_by_taking_all(share, "a")

    assert held_by_taking_all(share, "b") == 32


def test_a_capacity_of_one_serves_whoever_comes_first() -> None:
    share = Share(1)

    assert held_by_taking_all(share, "a") == 1
    assert not share.allows("b")


def test_nothing_is_allowed_where_there_is_nothing() -> None:
    assert not Share(0).allows("a")


def test_what_is_given_back_may_be_taken_again() -> None:
    share = Share(2)
    share.take("a")
    assert not share.allows("a")

    share.give_back("a")

    assert share.allows("a")


@given(st.integers(0, 60), st.lists(st.tuples(st.booleans(), st.sampled_from("abcdef"))))
def test_the_capacity_is_never_exceeded_and_one_visitor_never_holds_more_than_half(
    capacity: int, steps: list[tuple[bool, str]]
) -> None:
    share = Share(capacity)
    held = dict.fromkeys("abcdef", 0)

    for takes, visitor in steps:
        if takes and share.allows(visitor):
            share.take(visitor)
            held[visitor] += 1
            assert held[visitor] <= (capacity + 1) / 2
        elif not takes and held[visitor]:
            share.give_back(visitor)
            held[visitor] -= 1

        assert sum(held.values()) <= capacity


@pytest.mark.parametrize(
    ("address", "visitor"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("unknown", "unknown"),
    ],
)
def test_a_visitor_is_an_address_or_an_ipv6_network(address: str, visitor: str) -> None:
    assert one_visitor(address) == visitor
