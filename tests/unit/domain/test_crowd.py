from __future__ import annotations

from tunnel_server.domain.crowd import Crowd


def test_while_there_is_room_nobody_is_displaced() -> None:
    crowd: Crowd[str] = Crowd(3)

    assert [crowd.add(member, "10.0.0.1") for member in "abc"] == [None, None, None]
    assert list(crowd) == ["a", "b", "c"]


def test_a_flood_displaces_its_own_oldest() -> None:
    crowd: Crowd[str] = Crowd(4)
    crowd.add("other", "10.0.0.2")
    for member in "abc":
        crowd.add(member, "10.0.0.1")

    assert crowd.add("d", "10.0.0.1") == "a"
    assert crowd.add("newcomer", "10.0.0.3") == "b"
    assert set(crowd) == {"other", "c", "d", "newcomer"}


def test_who_has_left_counts_no_more() -> None:
    crowd: Crowd[str] = Crowd(2)
    crowd.add("a", "10.0.0.1")
    crowd.add("b", "10.0.0.1")

    crowd.remove("a")
    crowd.remove("a")

    assert len(crowd) == 1
    assert crowd.add("c", "10.0.0.2") is None
