"""The policy for the requests of a tunnel."""

from __future__ import annotations

import pytest
from quotas_kit import NOON, Bench, client, end, passes, refused, tunnel

ALICE, BOB = client("alice"), client("bob")
WEB, API = tunnel(ALICE, "web"), tunnel(ALICE, "api")
OTHER = tunnel(BOB, "other")


def test_a_tunnel_that_nothing_limits_has_no_policy() -> None:
    bench = Bench(tunnels_per_key=5)

    assert bench.plugin.guard_tunnel(WEB) is None


@pytest.mark.parametrize("scope", ["visitor", "tunnel", "key"])
def test_a_rate_is_kept_and_the_wait_told_in_whole_seconds(scope: str) -> None:
    bench = Bench(**{f"requests_per_second_per_{scope}": 0.4, f"burst_per_{scope}": 3})
    policy = bench.policy(WEB)
    for _ in range(3):
        end(passes(policy))

    assert refused(policy) == (429, "3")  # a token takes 2.5 s
    bench.clock.now += 2
    assert refused(policy) == (429, "1")
    bench.clock.now += 0.5
    end(passes(policy))
    assert refused(policy) == (429, "3")
    assert bench.counted("refused_total", limit="requests_per_second", kind=scope) == 3


@pytest.mark.parametrize("scope", ["visitor", "tunnel", "key"])
def test_no_more_run_at_a_time_than_may(scope: str) -> None:
    bench = Bench(**{f"concurrent_requests_per_{scope}": 2})
    policy = bench.policy(WEB)
    first, _ = passes(policy), passes(policy)

    assert refused(policy) == (503, "1")
    assert bench.counted("refused_total", limit="concurrent_requests", kind=scope) == 1
    assert bench.counted("running_requests") == 2

    end(first, outcome="aborted")
    passes(policy)
    assert refused(policy) == (503, "1")


def test_a_request_ends_once_however_often_it_is_told() -> None:
    bench = Bench(concurrent_requests_per_key=1)
    policy = bench.policy(WEB)
    allowed = passes(policy)
    end(allowed)
    end(allowed)

    passes(policy)

    assert refused(policy) == (503, "1")
    assert bench.counted("running_requests") == 1


@pytest.mark.parametrize("kind", ["requests_per_second", "concurrent_requests"])
def test_visitors_do_not_disturb_each_other(kind: str) -> None:
    bench = Bench(**{f"{kind}_per_visitor": 1})
    policy = bench.policy(WEB)
    passes(policy, "203.0.113.1")
    refused(policy, "203.0.113.1")

    passes(policy, "203.0.113.2")


@pytest.mark.parametrize("kind", ["requests_per_second", "concurrent_requests"])
def test_a_visitor_is_one_over_the_tunnels_of_a_key_and_another_at_those_of_another(kind: str) -> None:
    bench = Bench(**{f"{kind}_per_visitor": 1})
    passes(bench.policy(WEB))

    refused(bench.policy(API))
    passes(bench.policy(OTHER))


@pytest.mark.parametrize("kind", ["requests_per_second", "concurrent_requests"])
def test_tunnels_do_not_disturb_each_other(kind: str) -> None:
    bench = Bench(**{f"{kind}_per_tunnel": 1})
    passes(bench.policy(WEB))
    refused(bench.policy(WEB))

    passes(bench.policy(API))


@pytest.mark.parametrize("kind", ["requests_per_second", "concurrent_requests"])
def test_a_key_is_one_over_its_tunnels_and_does_not_disturb_another(kind: str) -> None:
    bench = Bench(**{f"{kind}_per_key": 1})
    passes(bench.policy(WEB))
    refused(bench.policy(API))

    passes(bench.policy(OTHER))


def test_a_tunnel_that_is_opened_again_has_no_fresh_tokens() -> None:
    bench = Bench(requests_per_second_per_tunnel=1)
    end(passes(bench.policy(WEB)))

    refused(bench.policy(tunnel(ALICE, "web", at=5.0)))


def test_a_refused_request_costs_nobody_a_token() -> None:
    bench = Bench(
        requests_per_second_per_visitor=0.001, requests_per_second_per_key=0.1, burst_per_key=2, burst_per_visitor=1
    )
    policy = bench.policy(WEB)
    end(passes(policy, "203.0.113.1"))
    for _ in range(50):
        refused(policy, "203.0.113.1")

    end(passes(policy, "203.0.113.2"))


def test_strangers_who_come_in_vain_are_not_remembered() -> None:
    bench = Bench(requests_per_second_per_key=1, requests_per_second_per_visitor=1)
    policy = bench.policy(WEB)
    end(passes(policy, "203.0.113.1"))

    for at in range(1000):
        refused(policy, f"2001:db8:0:{at:x}::/64")

    assert bench.counted("meters") == 1


def test_who_is_kept_out_by_another_policy_uses_up_nobodys_requests_but_their_own() -> None:
    bench = Bench(requests_per_second_per_key=0.1, requests_per_second_per_visitor=0.1, bytes_per_day=100)
    policy = bench.policy(WEB)

    end(passes(policy, "203.0.113.1"), octets=10_000, outcome="refused")

    refused(policy, "203.0.113.1")
    end(passes(policy, "203.0.113.2"), octets=10)


def test_bytes_count_in_both_directions_until_midnight() -> None:
    bench = Bench(bytes_per_day=1000)
    policy = bench.policy(WEB)
    end(passes(policy), octets=999)
    end(passes(policy), octets=1)

    assert refused(policy) == (429, "43200")
    assert refused(bench.policy(API)) == (429, "43200")
    passes(bench.policy(OTHER))
    assert bench.counted("refused_total", limit="bytes_per_day", kind="key") == 2

    bench.wall.now = NOON + 43_200
    passes(policy)


def test_bytes_of_an_aborted_request_count() -> None:
    bench = Bench(bytes_per_day=1000)
    policy = bench.policy(WEB)
    end(passes(policy), octets=1000, outcome="aborted")

    refused(policy)


def test_what_is_idle_is_forgotten() -> None:
    bench = Bench(requests_per_second_per_visitor=1, requests_per_second_per_tunnel=1, burst_per_visitor=10)
    policy = bench.policy(WEB)
    end(passes(policy))
    assert (bench.counted("keys"), bench.counted("meters")) == (1, 2)

    bench.clock.now += 2
    for _ in bench.plugin._keys.forget(bench.clock.now):
        pass

    assert (bench.counted("keys"), bench.counted("meters")) == (0, 0)


def test_a_request_that_ends_after_its_limits_changed_gives_back_what_it_took() -> None:
    bench = Bench(concurrent_requests_per_key=1, concurrent_requests_per_visitor=1)
    policy = bench.policy(WEB)
    allowed = passes(policy)
    bench.plugin._desk.overrides.version += 1

    end(allowed)

    passes(policy)
