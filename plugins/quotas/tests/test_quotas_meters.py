"""The meters of one key: bounded, and nobody loses theirs to another."""

from __future__ import annotations

import pytest
from tunnel_server_quotas import keys as all_keys
from tunnel_server_quotas import meters as tables
from tunnel_server_quotas.keys import Keys
from tunnel_server_quotas.limits import Pace
from tunnel_server_quotas.meter import Meter
from tunnel_server_quotas.meters import Meters, Room, network_of

SLOW = Pace(0.01, 1)  # a bucket that is full again after 100 s


def use(meters: Meters, name: str, now: float = 0.0) -> Meter:
    meter = meters.of(name, now)
    meter.take(SLOW, now)
    meter.end()
    return meter


def test_a_name_has_the_same_meter_while_it_matters() -> None:
    meters = Meters(Room())
    meter = use(meters, "a")

    meters.forget(99.0)
    assert meters.of("a", 99.0) is meter

    meters.forget(101.0)
    assert len(meters) == 0
    assert meters.of("a", 101.0) is not meter


def test_a_meter_with_a_request_running_is_never_forgotten() -> None:
    meters = Meters(Room())
    meter = meters.of("a", 0.0)
    meter.take(SLOW, 0.0)

    meters.forget(1e9)

    assert meters.of("a", 1e9) is meter


def test_a_full_table_keeps_who_is_in_it_and_lets_newcomers_share() -> None:
    room = Room()
    meters = Meters(room)
    old = [use(meters, f"10.0.{at // 256}.{at % 256}") for at in range(tables.MOST)]

    new = [use(meters, f"2001:db8:0:{at:x}::/64") for at in range(1000)]

    assert len(meters) == room.taken == tables.MOST
    assert meters.of("10.0.0.0", 1.0) is old[0]
    assert len({id(meter) for meter in new}) == 1  # one network of 48 bits is one
    assert room.shared == 1000


def test_newcomers_of_different_networks_seldom_share() -> None:
    meters = Meters(Room())
    for at in range(tables.MOST):
        use(meters, f"10.0.{at // 256}.{at % 256}")

    shared = {id(use(meters, f"198.51.{at}.1")) for at in range(256)}

    assert tables.SHARED // 2 < len(shared) <= tables.SHARED


def test_a_full_table_takes_newcomers_again_when_others_are_idle() -> None:
    meters = Meters(Room())
    for at in range(tables.MOST):
        use(meters, f"10.0.{at // 256}.{at % 256}")

    use(meters, "new", now=101.0)

    assert len(meters) == 1


def test_a_full_table_is_searched_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    meters = Meters(Room())
    for at in range(tables.MOST):
        use(meters, f"10.0.{at // 256}.{at % 256}")
    meters.of("new", 50.0)
    searches = []
    monkeypatch.setattr(Meters, "forget", lambda self, now: searches.append(now))

    for at in range(100):
        meters.of(f"other-{at}", 50.0 + at / 50)

    assert searches == [51.0]


def test_one_key_cannot_take_the_last_room_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_OF_ALL", 100)
    room = Room()
    greedy, modest = Meters(room), Meters(room)
    for at in range(500):
        use(greedy, f"10.0.{at // 256}.{at % 256}")

    own = {id(use(modest, f"192.0.2.{at}")) for at in range(tables.OWN)}

    assert len(greedy) == 100
    assert len(own) == len(modest) == tables.OWN


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("203.0.113.7", "203.0.113.0/24"),
        ("2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ("web-abc", "web-abc"),
    ],
)
def test_a_visitor_shares_with_its_network(name: str, network: str) -> None:
    assert network_of(name) == network


def forget(keys: Keys, now: float) -> None:
    for _ in keys.forget(now):
        pass


def test_a_key_is_remembered_while_any_of_its_meters_matters() -> None:
    keys = Keys()
    use(keys.of("k", 0.0).visitors, "v")

    forget(keys, 50.0)
    assert len(keys) == 1

    forget(keys, 101.0)
    assert len(keys) == keys.room.taken == 0


def test_too_many_keys_forget_those_nearest_to_full_and_none_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(all_keys, "MOST", 20)
    keys = Keys()
    running = keys.of("running", 0.0)
    running.take(Pace(concurrent=1), 0.0)
    for at in range(1, 20):
        key = keys.of(f"k{at}", float(at))
        key.due = 100.0 + at
        use(key.visitors, "v", 0.0)

    keys.of("new", 20.0)

    assert len(keys) == 19
    assert keys.of("running", 20.0) is running
    assert keys.of("k19", 20.0).due == 119.0
    assert keys.of("k1", 20.0).due == 0.0
    assert keys.room.taken == 17
