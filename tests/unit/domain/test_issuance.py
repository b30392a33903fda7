"""Which hosts a CA is asked for, and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel_server.domain.errors import OrderFailed
from tunnel_server.domain.issuance import (
    DAY,
    HOUR,
    MINUTE,
    Issuance,
    IssuanceLimits,
    renewal_time,
    retry_delay,
)
from tunnel_server.domain.signable import parent

NOW = 1_800_000_000.0
FAILED = OrderFailed("no")
OUTAGE = OrderFailed("down", outage=True)


def no_jitter() -> float:
    return 0.0


def issuance(**limits: int) -> Issuance:
    return Issuance(IssuanceLimits(**limits), no_jitter)


def ordered(rules: Issuance, now: float, most: int = 1000) -> list[str]:
    """Return what is ordered in one go, each with success, until nothing is left to do."""
    found: list[str] = []
    while len(found) < most and (host := rules.next(now)) is not None:
        found.append(host)
        rules.hold(host, now + 60 * DAY)
    return found


# times


@given(st.floats(0, 4e9), st.floats(0, 4e8), st.floats(0, 1, exclude_max=True))
def test_a_renewal_is_due_at_two_thirds_of_the_life_give_or_take_a_twentieth(
    begin: float, life: float, chance: float
) -> None:
    at = renewal_time(begin, begin + life, lambda: chance, ordered=-DAY * 1e6)

    assert begin + life * (2 / 3 - 0.0501) - 1 <= at <= begin + life * (2 / 3 + 0.0501) + 1


def test_renewals_of_one_moment_are_spread() -> None:
    early = renewal_time(NOW, NOW + 90 * DAY, lambda: 0.0)
    late = renewal_time(NOW, NOW + 90 * DAY, lambda: 0.999)

    assert 8.9 * DAY < late - early < 9.1 * DAY


@pytest.mark.parametrize(("life", "least"), [(90 * DAY, 9 * DAY), (1.0, MINUTE), (-DAY, MINUTE)])
def test_a_wrong_clock_or_a_short_life_does_not_order_without_end(life: float, least: float) -> None:
    assert renewal_time(NOW - 100 * DAY, NOW - 100 * DAY + life, no_jitter, ordered=NOW) == NOW + least


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_failure_waits_from_a_minute_to_a_day_and_never_less_than_the_one_before(count: int, chance: float) -> None:
    delay = retry_delay(count, lambda: chance)

    assert MINUTE <= delay <= DAY
    assert retry_delay(count + 1, lambda: chance) >= delay


def test_five_tries_at_most_fall_into_an_hour() -> None:
    rules = issuance()
    rules.hold("a.de", NOW)
    tries = 0

    for second in range(0, 3600, 10):
        if rules.next(NOW + second) is not None:
            tries += 1
            rules.failed("a.de", NOW + second, FAILED)

    assert tries == 5


# which is next


def test_a_host_that_is_asked_for_is_ordered_once() -> None:
    rules = issuance()

    assert rules.ask("a.de", NOW) is None
    assert rules.ask("a.de", NOW) is None
    assert (rules.waiting, "a.de" in rules) == (1, True)

    assert ordered(rules, NOW) == ["a.de"]
    assert rules.ask("a.de", NOW) is None
    assert rules.next(NOW) is None


def test_what_is_held_comes_before_what_is_asked_for() -> None:
    rules = issuance()
    rules.ask("asked.de", NOW)
    rules.hold("later.de", NOW + 1)
    rules.hold("held.de", NOW)

    assert ordered(rules, NOW) == ["held.de", "asked.de"]
    assert ordered(rules, NOW + 1) == ["later.de"]


def test_the_queue_is_bounded() -> None:
    rules = issuance(queue=2)
    assert rules.ask("a.de", NOW) is None
    assert rules.ask("b.de", NOW) is None

    assert rules.ask("c.de", NOW) is not None
    assert rules.waiting == 2


def test_one_domain_cannot_fill_the_queue() -> None:
    rules = issuance(queue=10, parent_per_day=3)
    answers = [rules.ask(f"{number}.greedy.de", NOW) for number in range(10)]
    assert answers.count(None) == 3

    assert rules.ask("a.modest.de", NOW) is None


def test_no_more_hosts_are_held_than_may_be() -> None:
    rules = issuance(hosts=2)
    rules.hold("fixed.de", NOW + DAY)
    assert rules.ask("a.de", NOW) is None

    assert rules.ask("b.de", NOW) is not None


def test_an_hour_has_its_orders_and_what_waits_keeps_its_place() -> None:
    rules = issuance(per_hour=2)
    for host in ("a.de", "b.de", "c.de"):
        assert rules.ask(host, NOW) is None

    assert ordered(rules, NOW) == ["a.de", "b.de"]
    assert rules.ask("d.de", NOW) is not None
    assert ordered(rules, NOW + HOUR - 1) == []
    assert ordered(rules, NOW + HOUR) == ["c.de"]


def test_a_day_has_its_orders() -> None:
    rules = issuance(per_day=1)
    rules.ask("a.de", NOW)
    rules.ask("b.de", NOW)

    assert ordered(rules, NOW) == ["a.de"]
    assert ordered(rules, NOW + DAY - 1) == []
    assert ordered(rules, NOW + DAY) == ["b.de"]


def test_a_domain_has_its_orders_of_a_day() -> None:
    rules = issuance(parent_per_day=1)
    rules.ask("a.shop.de", NOW)
    assert ordered(rules, NOW) == ["a.shop.de"]

    assert rules.ask("b.shop.de", NOW) is not None
    assert rules.ask("b.other.de", NOW) is None
    assert rules.ask("b.shop.de", NOW + DAY) is None


def test_a_host_has_its_orders_of_a_day() -> None:
    rules = issuance(host_per_day=1)
    rules.ask("a.de", NOW)
    assert rules.next(NOW) == "a.de"
    rules.failed("a.de", NOW, FAILED)

    assert rules.ask("a.de", NOW + HOUR) is not None
    assert rules.ask("a.de", NOW + DAY) is None


def test_what_is_held_is_ordered_whatever_is_spent() -> None:
    rules = issuance(per_hour=1, host_per_day=1, parent_per_day=1)
    for host in ("a.x.de", "b.x.de"):
        rules.hold(host, NOW)

    assert ordered(rules, NOW) == ["a.x.de", "b.x.de"]


def test_what_is_skipped_counts_as_no_order() -> None:
    rules = issuance(per_hour=1)
    rules.hold("gone.de", NOW)
    assert rules.next(NOW) == "gone.de"
    rules.skip("gone.de", NOW + DAY)
    assert "gone.de" in rules
    assert rules.next(NOW + DAY) == "gone.de"
    rules.skip("gone.de")
    assert "gone.de" not in rules

    assert rules.ask("a.de", NOW + DAY) is None


# after failures


def test_a_host_that_failed_waits_longer_each_time_and_a_success_makes_up_for_it() -> None:
    rules = issuance()
    waits = []
    now = NOW
    rules.hold("a.de", now)
    for _ in range(12):
        assert rules.next(now) == "a.de"
        again = rules.failed("a.de", now, FAILED)
        assert rules.next(again - 1) is None
        waits.append(again - now)
        now = again

    assert waits[:4] == [60, 180, 540, 1620]
    assert waits[-1] == DAY
    rules.hold("a.de", now)
    assert rules.failures("a.de") == 0
    assert rules.failed("a.de", now, FAILED) == now + 60


def test_a_host_that_failed_on_demand_is_refused_until_its_time_and_not_tried_by_itself() -> None:
    rules = issuance()
    rules.ask("a.de", NOW)
    assert rules.next(NOW) == "a.de"
    again = rules.failed("a.de", NOW, FAILED)

    assert rules.ask("a.de", again - 1) is not None
    assert rules.next(again + DAY) is None
    assert rules.ask("a.de", again) is None


def test_a_host_that_failed_does_not_hold_up_others() -> None:
    rules = issuance()
    for host in ("a.de", "b.de"):
        rules.hold(host, NOW)
    assert rules.next(NOW) == "a.de"
    rules.failed("a.de", NOW, FAILED)

    assert rules.next(NOW) == "b.de"


@pytest.mark.parametrize(("asked", "wait"), [(7200.0, 7200.0), (1.0, 60.0), (1e12, 7 * DAY)])
def test_what_the_ca_asks_for_is_heeded_within_reason(asked: float, wait: float) -> None:
    rules = issuance()
    rules.hold("a.de", NOW)
    rules.next(NOW)

    assert rules.failed("a.de", NOW, OrderFailed("limit", retry_after=asked)) == NOW + wait
    assert rules.next(NOW + wait - 1) is None
    assert rules.next(NOW + wait) == "a.de"


def test_an_outage_keeps_all_waiting_counts_for_no_host_and_lasts_an_hour_at_most() -> None:
    rules = issuance(host_per_day=1)
    rules.hold("a.de", NOW)
    rules.hold("b.de", NOW)
    rules.ask("c.de", NOW)
    now = NOW
    tried = []
    for _ in range(8):
        host = rules.next(now)
        assert host is not None
        tried.append(host)
        again = rules.failed(host, now, OUTAGE)
        assert rules.next(again - 1) is None
        assert again - now <= HOUR
        now = again

    assert tried == ["a.de", "b.de"] * 4  # each has its turn
    assert rules.failures("a.de") == 0
    assert ordered(rules, now) == ["a.de", "b.de", "c.de"]


def test_what_was_tried_in_an_outage_may_be_asked_for_again() -> None:
    rules = issuance(per_hour=1, per_day=1, parent_per_day=1, host_per_day=1)
    rules.ask("a.de", NOW)
    assert rules.next(NOW) == "a.de"
    again = rules.failed("a.de", NOW, OUTAGE)

    assert rules.ask("a.de", again) is None
    assert rules.next(again) == "a.de"


def test_an_outage_that_is_over_begins_again_with_a_minute() -> None:
    rules = issuance()
    rules.hold("a.de", NOW)
    for _ in range(5):
        rules.failed("a.de", NOW, OUTAGE)
    rules.issued()

    assert rules.failed("a.de", NOW, OUTAGE) == NOW + 60


def test_a_clock_set_back_makes_no_wait_endless() -> None:
    rules = issuance(per_hour=1, per_day=1)
    wrong = NOW + 20 * 365 * DAY
    rules.ask("a.de", wrong)
    rules.ask("b.de", wrong)
    rules.next(wrong)
    rules.failed("a.de", wrong, OUTAGE)
    rules.next(wrong + HOUR)
    rules.failed("b.de", wrong + HOUR, FAILED)

    assert rules.ask("b.de", NOW) is None
    assert rules.next(NOW) == "b.de"


def test_failures_are_remembered_of_so_many_hosts() -> None:
    rules = issuance(remembered=3)
    for number in range(5):
        rules.failed(f"{number}.de", NOW, FAILED)

    assert [rules.failures(f"{number}.de") for number in range(5)] == [0, 0, 1, 1, 1]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ask", "next"]),
            st.sampled_from([f"{number}.{domain}.de" for number in range(4) for domain in "xyz"]),
            st.sampled_from(["hold", "fail", "outage", "skip"]),
            st.floats(0, HOUR),
        ),
        max_size=80,
    )
)
def test_limits_hold_whatever_happens(steps: list[tuple[str, str, str, float]]) -> None:
    limits = IssuanceLimits(per_hour=4, per_day=8, parent_per_day=3, host_per_day=2, queue=3, hosts=6, remembered=4)
    rules = Issuance(limits, no_jitter)
    now, made = NOW, []
    for act, host, end, pause in steps:
        now += pause
        if act == "ask":
            rules.ask(host, now)
        elif (found := rules.next(now)) is not None:
            if end == "hold":
                rules.hold(found, now + 60 * DAY)
            elif end == "skip":
                rules.skip(found)
            else:
                rules.failed(found, now, OUTAGE if end == "outage" else FAILED)
            if end in ("hold", "fail"):
                made.append((now, found))
        assert rules.waiting <= 3
        assert rules.held + rules.waiting <= 6
        assert sum(at > now - HOUR for at, _ in made) <= 4
        day = [host for at, host in made if at > now - DAY]
        assert len(day) <= 8
        assert all(day.count(host) <= 2 for host in day)
        assert all([parent(other) for other in day].count(parent(host)) <= 3 for host in day)
