from __future__ import annotations

import random
from collections import Counter
from time import perf_counter

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


def test_an_address_with_a_few_is_no_flood_and_the_oldest_of_all_goes() -> None:
    crowd: Crowd[str] = Crowd(40)
    for number in range(34):
        crowd.add(f"silent {number}", f"10.1.0.{number}")
    for number in range(6):
        crowd.add(f"browser {number}", "10.0.0.1")

    assert [crowd.add(f"new {number}", f"10.2.0.{number}") for number in range(3)] == [
        "silent 0",
        "silent 1",
        "silent 2",
    ]


def test_the_address_with_the_most_is_known_however_they_come_and_go() -> None:
    chance = random.Random(7)
    crowd: Crowd[int] = Crowd(60)
    plain: dict[int, str] = {}
    for number in range(5_000):
        if plain and chance.random() < 0.4:
            gone = chance.choice(list(plain))
            crowd.remove(gone)
            del plain[gone]
        address = f"10.0.0.{int(chance.expovariate(0.5))}"
        displaced = crowd.add(number, address)
        if displaced is not None:
            counts = Counter(plain.values())
            most = max(counts.values())
            assert displaced in plain
            assert counts[plain[displaced]] == most if most > 8 else displaced == next(iter(plain))
            del plain[displaced]
        plain[number] = address
        assert list(crowd) == list(plain)


def test_a_full_crowd_of_many_addresses_takes_newcomers_as_quickly_as_an_empty_one() -> None:
    crowd: Crowd[int] = Crowd(50_000)
    started = perf_counter()
    for number in range(50_000):
        crowd.add(number, str(number))
    filled = perf_counter() - started

    started = perf_counter()
    for number in range(50_000, 60_000):
        crowd.add(number, str(number))

    assert perf_counter() - started < 5 * filled
