"""Which names are zones, until when, and what it takes to find one."""

from __future__ import annotations

import dns.name
import pytest
from structlog.testing import capture_logs
from tunnel_server_dns_challenge.zones import MAX_EMPTY, Zones

LASTING = "_acme-challenge.tunnels.example.com"


def found(zones: Zones, name: str) -> int | None:
    return zones.find(dns.name.from_text(name).to_wire())


def host(number: int) -> str:
    return f"_acme-challenge.{number}.example.net"


async def proved(zones: Zones, name: str) -> None:
    await zones.publish(name, "value")
    await zones.remove(name, "value")


async def test_a_zone_is_forgotten_when_enough_others_were_emptied_after_it(zones: Zones) -> None:
    await proved(zones, LASTING)
    for number in range(MAX_EMPTY + 1):
        assert found(zones, host(0)) == (0 if number else None)
        await proved(zones, host(number))

    assert found(zones, host(0)) is None
    assert found(zones, host(1)) == found(zones, host(MAX_EMPTY)) == 0
    assert found(zones, LASTING) == 0
    with capture_logs() as logs:
        await zones.publish(host(0), "value")
    assert [entry["event"] for entry in logs] == ["dns-challenge.zone-added"]


async def test_a_zone_with_a_value_is_not_forgotten(zones: Zones) -> None:
    await zones.publish(host(0), "one")
    await zones.publish(host(0), "two")
    await zones.remove(host(0), "one")
    await proved(zones, host(1))
    await zones.publish(host(1), "of its next order")
    for number in range(2, MAX_EMPTY + 3):
        await proved(zones, host(number))

    assert found(zones, host(0)) == found(zones, host(1)) == 0
    assert found(zones, host(2)) is None
    assert len(zones.texts()) == 2


async def test_there_are_never_more_zones_than_are_needed(zones: Zones) -> None:
    for number in range(10 * MAX_EMPTY):
        await proved(zones, host(number))

    assert len(zones._apexes) == 1 + MAX_EMPTY
    assert not zones._texts


async def test_names_are_the_same_whatever_their_case(zones: Zones) -> None:
    await zones.publish(host(0).upper(), "value")
    assert found(zones, host(0).title()) == 0

    await zones.remove(host(0), "value")
    assert zones.texts() == []


async def test_a_value_that_cannot_be_published_leaves_no_zone(zones: Zones) -> None:
    for value in ("ü", "x" * 256):
        with pytest.raises(ValueError, match="range"):
            await zones.publish(host(0), value)

    assert found(zones, host(0)) is None


class Looked(set[bytes]):
    """Counts how often one looks into it, and lets nobody go through it."""

    times = 0

    def __contains__(self, name: object) -> bool:
        self.times += 1
        return super().__contains__(name)

    def __iter__(self) -> None:  # type: ignore[override]
        raise AssertionError("went through all zones")


@pytest.mark.parametrize("count", [1, 3000])
async def test_finding_a_zone_takes_a_look_for_each_label_however_many_there_are(zones: Zones, count: int) -> None:
    for number in range(count):
        await zones.publish(host(number), "value")
    zones._apexes = looked = Looked(zones._apexes)

    assert (found(zones, host(0)), looked.times) == (0, 1)
    assert (found(zones, f"a.b.{host(0)}"), looked.times) == (4, 1 + 3)
    assert (found(zones, "www.example.net"), looked.times) == (None, 4 + 4)  # the root, too
    assert (found(zones, "a." * 127), looked.times) == (None, 8 + 128)

    await zones.publish("_acme-challenge.new.example.net", "value")
    await zones.remove("_acme-challenge.new.example.net", "value")
    assert looked.times == 136 + 1
