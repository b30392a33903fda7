"""How many tunnels a key may have."""

from __future__ import annotations

import dataclasses

from quotas_kit import Bench, client
from tunnel_server_quotas.tunnels import OPENING

ALICE = client("alice")
BOB = client("bob")


async def test_without_a_limit_every_tunnel_is_let_pass() -> None:
    bench = await Bench().start()

    assert [bench.ask(ALICE, f"t{at}") for at in range(100)] == [None] * 100


async def test_a_tunnel_too_many_is_refused_with_the_limit_named() -> None:
    bench = await Bench(tunnels_per_key=2).start()
    for name in ("a", "b"):
        assert bench.ask(ALICE, name) is None
        bench.plugin.tunnel_opened(bench.open(ALICE, name))

    assert bench.ask(ALICE, "c") == "this key has 2 of 2 tunnels already (tunnels_per_key)"
    assert bench.counted("refused_total", limit="tunnels", kind="key") == 1


async def test_forwards_in_flight_at_once_do_not_get_past_the_limit() -> None:
    bench = await Bench(tunnels_per_key=3).start()

    answers = [bench.ask(ALICE, f"t{at}") for at in range(10)]

    assert answers.count(None) == 3


async def test_one_key_is_counted_over_its_connections_and_another_is_not() -> None:
    bench = await Bench(tunnels_per_key=1).start()
    bench.open(ALICE, "a")
    elsewhere = dataclasses.replace(ALICE, address="198.51.100.1", user="other")

    assert bench.ask(elsewhere, "b") is not None
    assert bench.ask(BOB, "b") is None


async def test_keys_of_the_same_client_id_are_counted_apart() -> None:
    bench = await Bench(tunnels_per_key=1).start()
    ground_out = dataclasses.replace(BOB, id=ALICE.id)
    bench.open(ground_out, "a")

    assert bench.ask(ALICE, "b") is None


async def test_a_client_that_comes_back_for_its_names_is_not_counted_twice() -> None:
    bench = await Bench(tunnels_per_key=2).start()
    for name in ("a", "b"):
        bench.open(ALICE, name)

    assert bench.ask(ALICE, "a") is None
    assert bench.ask(ALICE, "b") is None
    assert bench.ask(ALICE, "c") is not None


async def test_a_name_that_is_asked_for_again_keeps_one_place() -> None:
    bench = await Bench(tunnels_per_key=2).start()

    assert [bench.ask(ALICE, "a") for _ in range(5)] == [None] * 5
    assert bench.ask(ALICE, "b") is None


async def test_a_tunnel_of_several_names_is_one() -> None:
    bench = await Bench(tunnels_per_key=2).start()
    bench.open(ALICE, "a", "a.example.com", "*.a.example.com")

    assert bench.ask(ALICE, "b", "b.example.com") is None
    assert bench.ask(ALICE, "c", "a.example.com") is None  # the first holds that name, so one of the two will be
    assert bench.ask(ALICE, "d") is not None


async def test_a_tunnel_that_closed_leaves_its_place_at_once() -> None:
    bench = await Bench(tunnels_per_key=1).start()
    assert bench.ask(ALICE, "a") is None
    opened = bench.open(ALICE, "a")
    bench.plugin.tunnel_opened(opened)
    bench.server.close(opened, "")

    assert bench.ask(ALICE, "b") is None


async def test_a_place_is_kept_for_a_client_that_comes_back_while_its_former_tunnel_goes() -> None:
    bench = await Bench(tunnels_per_key=1).start()
    former = bench.open(ALICE, "a")
    assert bench.ask(ALICE, "a") is None
    assert bench.ask(ALICE, "b") is not None

    bench.server.close(former, "")

    assert bench.ask(ALICE, "b") is not None


async def test_a_place_is_kept_once_if_the_opening_is_not_told_of() -> None:
    bench = await Bench(tunnels_per_key=2).start()
    bench.ask(ALICE, "a")
    bench.open(ALICE, "a")

    assert bench.ask(ALICE, "b") is None
    assert bench.ask(ALICE, "c") is not None


async def test_a_place_of_a_tunnel_that_was_not_opened_is_free_after_a_while() -> None:
    bench = await Bench(tunnels_per_key=1).start()
    bench.ask(ALICE, "a")
    bench.clock.now += OPENING - 0.1
    assert bench.ask(ALICE, "b") is not None

    bench.clock.now += 0.2

    assert bench.ask(ALICE, "b") is None


async def test_places_of_keys_that_are_gone_are_forgotten() -> None:
    bench = await Bench(tunnels_per_key=1).start()
    for at in range(100):
        bench.ask(client(f"c{at}"), "a")
    assert len(bench.plugin._openings) == 100

    bench.clock.now += OPENING
    await bench.plugin._upkeep.round()

    assert len(bench.plugin._openings) == 0


async def test_a_tunnel_that_was_opened_too_late_for_its_place_is_closed() -> None:
    bench = await Bench(tunnels_per_key=1).start()
    bench.ask(ALICE, "late")
    bench.clock.now += OPENING + 1
    bench.ask(ALICE, "other")
    bench.open(ALICE, "other")
    bench.clock.now += 1

    bench.plugin.tunnel_opened(bench.open(ALICE, "late"))

    assert [label for label, _ in bench.server.closed] == ["late"]
    assert "tunnels_per_key" in bench.server.closed[0][1]


async def test_a_round_closes_the_newest_tunnels_of_each_key_that_has_too_many() -> None:
    bench = await Bench(tunnels_per_key=2).start()
    for name in ("a", "b", "c", "d"):
        bench.clock.now += 1
        bench.open(ALICE, name)
    bench.open(BOB, "e")

    await bench.plugin._upkeep.round()

    assert [label for label, _ in bench.server.closed] == ["c", "d"]
    assert bench.counted("closed_tunnels_total") == 2
