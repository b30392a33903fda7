"""Look-ups against a real name server on loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import dns.rcode
import pytest
from tunnel_server_custom_domains.lookups import MAX_OF_SOURCE, CacheRules, Lookups, TooManyLookups
from tunnel_server_custom_domains.metrics import Metrics
from tunnel_server_custom_domains.resolver import DnsSource, LookupFailed, Records, ResolverOptions, TxtSource

A = "SHA256:" + "A" * 43
B = "SHA256:" + "b" * 43
NAME = "_tunnel.app.example.com"


def source(zone: Any, *others: int, limit: float = 20.0) -> DnsSource:
    servers = tuple(("127.0.0.1", port) for port in (*others, zone.port))
    return DnsSource(ResolverOptions(servers, try_limit=0.3, limit=limit))


async def test_a_record_names_keys_until_its_ttl_is_over(zone: Any) -> None:
    zone.put(NAME, "v=spf1 -all", f"tunnel-server={A}", f"tunnel-server={B}")

    assert await source(zone).txt(NAME) == Records(frozenset({A, B}), 60.0)


async def test_the_strings_of_one_record_are_joined(zone: Any) -> None:
    zone.texts[NAME] = [[b"tunnel-server=SHA", b"256:" + b"A" * 43 + b" ", B.encode()]]

    assert (await source(zone).txt(NAME)).fingerprints == {A, B}


async def test_names_compare_without_regard_to_case(zone: Any) -> None:
    zone.put(NAME, f"tunnel-server={A}")

    assert (await source(zone).txt("_Tunnel.APP.example.com")).fingerprints == {A}


async def test_a_record_may_stand_behind_an_alias(zone: Any) -> None:
    zone.aliases[NAME] = "proofs.elsewhere.com"
    zone.put("proofs.elsewhere.com", f"tunnel-server={A}")

    assert (await source(zone).txt(NAME)).fingerprints == {A}


async def test_no_such_name_and_no_such_record_are_answers_for_as_long_as_the_zone_says(zone: Any) -> None:
    zone.texts["_tunnel.empty.example.com"] = []

    assert await source(zone).txt(NAME) == Records(frozenset(), 7.0)
    assert await source(zone).txt("_tunnel.empty.example.com") == Records(frozenset(), 7.0)
    zone.soa_minimum = None
    assert await source(zone).txt(NAME) == Records(frozenset(), 0.0)


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.FORMERR])
async def test_an_error_of_the_server_is_no_answer(zone: Any, rcode: dns.rcode.Rcode) -> None:
    zone.rcodes[NAME] = rcode

    with pytest.raises(LookupFailed):
        await source(zone).txt(NAME)


async def test_silence_is_no_answer_within_the_limit(zone: Any) -> None:
    zone.silent.add(NAME)
    began = time.monotonic()

    with pytest.raises(LookupFailed):
        await source(zone, limit=1.0).txt(NAME)

    assert 0.9 < time.monotonic() - began < 5
    assert zone.asked.count(NAME) >= 2  # it asked again


async def test_a_lost_question_is_asked_again(zone: Any) -> None:
    zone.put(NAME, f"tunnel-server={A}")
    zone.drops = 1

    assert (await source(zone).txt(NAME)).fingerprints == {A}


async def test_garbage_is_no_answer(zone: Any) -> None:
    zone.garbage = True

    with pytest.raises(LookupFailed):
        await source(zone, limit=1.0).txt(NAME)


async def test_the_next_server_is_asked_when_one_is_down(zone: Any) -> None:
    zone.put(NAME, f"tunnel-server={A}")

    assert (await source(zone, 1).txt(NAME)).fingerprints == {A}


async def test_a_long_answer_comes_by_tcp_and_a_huge_one_proves_nothing(zone: Any) -> None:
    zone.texts[NAME] = [[b"x" * 255] * 20, [f"tunnel-server={A}".encode()]]
    zone.texts["_tunnel.huge.com"] = [[f"{number}".encode() + b"x" * 200] for number in range(250)]
    zone.texts["_tunnel.huge.com"].append([f"tunnel-server={A}".encode()])

    assert (await source(zone).txt(NAME)).fingerprints == {A}
    assert (await source(zone).txt("_tunnel.huge.com")).fingerprints == frozenset()
    assert zone.by_tcp >= 2


# What is remembered of them


class FakeSource(TxtSource):
    """Gives the records it was told; waits at a gate, if there is one; fails where it knows nothing."""

    def __init__(self) -> None:
        self.records: dict[str, Records] = {}
        self.asked: list[str] = []
        self.gate: asyncio.Event | None = None

    async def txt(self, name: str) -> Records:
        self.asked.append(name)
        if self.gate is not None:
            await self.gate.wait()
        if name not in self.records:
            raise LookupFailed("told to")
        return self.records[name]


class Clock:
    """Stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def fake() -> FakeSource:
    return FakeSource()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lookups(fake: FakeSource, clock: Clock) -> Lookups:
    return Lookups(fake, CacheRules(3, shortest=10, longest=100, longest_absent=20), Metrics(), clock)


@pytest.mark.parametrize(
    ("records", "kept"),
    [
        (Records(frozenset({A}), 50), 50),
        (Records(frozenset({A}), 1), 10),
        (Records(frozenset({A}), 9999), 100),
        (Records(frozenset(), 15), 15),
        (Records(frozenset(), 0), 5),
        (Records(frozenset(), 9999), 20),
    ],
)
async def test_an_answer_is_kept_for_its_ttl_within_limits(
    lookups: Lookups, fake: FakeSource, clock: Clock, records: Records, kept: float
) -> None:
    fake.records["a"] = records
    await lookups.find("a")

    clock.now = kept - 0.1
    await lookups.find("a")
    assert len(fake.asked) == 1
    clock.now = kept
    await lookups.find("a")
    assert len(fake.asked) == 2


async def test_a_failure_is_kept_for_a_moment_and_displaces_nothing_good(
    lookups: Lookups, fake: FakeSource, clock: Clock
) -> None:
    for _ in range(2):
        with pytest.raises(LookupFailed):
            await lookups.find("a")
    assert len(fake.asked) == 1

    clock.now = 5.0
    fake.records["a"] = Records(frozenset({A}), 50)
    assert await lookups.find("a") == {A}
    del fake.records["a"]
    clock.now = 20.0
    with pytest.raises(LookupFailed):
        await lookups.find("a", age=1.0)
    assert await lookups.find("a") == {A}


async def test_who_needs_a_fresh_answer_is_not_given_an_old_one(
    lookups: Lookups, fake: FakeSource, clock: Clock
) -> None:
    fake.records["a"] = Records(frozenset({A}), 50)
    await lookups.find("a")
    fake.records["a"] = Records(frozenset(), 50)
    clock.now = 9.0

    assert await lookups.find("a", age=9.0) == {A}
    assert await lookups.find("a", age=8.9) == frozenset()


async def test_the_cache_is_bounded(lookups: Lookups, fake: FakeSource) -> None:
    for name in "abcd":
        fake.records[name] = Records(frozenset({A}), 50)
        await lookups.find(name)

    await lookups.find("d")
    assert len(fake.asked) == 4
    await lookups.find("a")
    assert len(fake.asked) == 5


async def test_those_who_ask_the_same_at_once_share_one_lookup_and_one_that_leaves_ends_nothing(
    lookups: Lookups, fake: FakeSource
) -> None:
    fake.gate = asyncio.Event()
    fake.records["a"] = Records(frozenset({A}), 50)
    waiting = [asyncio.create_task(lookups.find("a")) for _ in range(100)]
    while not fake.asked:
        await asyncio.sleep(0)

    waiting[0].cancel()
    fake.gate.set()

    assert await asyncio.gather(*waiting[1:]) == [{A}] * 99
    assert fake.asked == ["a"]


async def test_one_source_has_a_bounded_number_of_lookups_at_once_and_others_go_on(
    lookups: Lookups, fake: FakeSource
) -> None:
    fake.gate = asyncio.Event()
    fake.records = {str(number): Records(frozenset(), 50) for number in range(20)}
    waiting = [asyncio.create_task(lookups.find(str(number), "greedy")) for number in range(MAX_OF_SOURCE)]
    while len(fake.asked) < MAX_OF_SOURCE:
        await asyncio.sleep(0)

    with pytest.raises(TooManyLookups):
        await lookups.find("18", "greedy")
    waiting.append(asyncio.create_task(lookups.find("19", "modest")))
    fake.gate.set()
    await asyncio.gather(*waiting)

    assert await lookups.find("18", "greedy") == frozenset()


async def test_only_what_goes_to_the_network_is_paid_for(lookups: Lookups, fake: FakeSource) -> None:
    fake.records["a"] = Records(frozenset({A}), 50)
    await lookups.find("a")
    no: Callable[[], bool] = lambda: False  # noqa: E731

    assert await lookups.find("a", spend=no) == {A}
    with pytest.raises(TooManyLookups):
        await lookups.find("b", spend=no)


async def test_at_the_stop_nothing_is_left_running(lookups: Lookups, fake: FakeSource) -> None:
    fake.gate = asyncio.Event()
    waiting = asyncio.create_task(lookups.find("a"))
    while not fake.asked:
        await asyncio.sleep(0)

    await lookups.stop()

    with pytest.raises(asyncio.CancelledError):
        await waiting
