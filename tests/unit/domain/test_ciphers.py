"""What is offered to clients, by the proposals that they really make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel_server.domain.ciphers import AES_CTR, AES_GCM, CHACHA20, EVERY, offer

PROPOSALS = json.loads((Path(__file__).parent / "client-proposals.json").read_text())

by_client = pytest.mark.parametrize("proposal", PROPOSALS, ids=lambda p: f"{p['version']}: {p['from'][:24]}")
ciphers = st.lists(st.sampled_from([*EVERY, b"aes128-cbc", b"3des-cbc", b"", b"none", b"AES128-CTR"]), max_size=8)


def listed(proposal: dict[str, Any]) -> tuple[list[bytes], list[bytes]]:
    """Return what a client lists, one list a direction."""
    return [name.encode() for name in proposal["toServer"]], [name.encode() for name in proposal["toClient"]]


def chosen(theirs: list[bytes], ours: list[bytes]) -> bytes | None:
    """Return what both sides settle on: the first of the client's that the server has (RFC 4253 §7.1)."""
    return next((name for name in theirs if name in ours), None)


@by_client
def test_a_real_client_gets_the_cipher_that_suits_it(proposal: dict[str, Any]) -> None:
    to_server, to_client = listed(proposal)

    offered = offer(to_server, to_client)

    expected = proposal["gets"].encode()
    assert (chosen(to_server, offered), chosen(to_client, offered)) == (expected, expected)


@by_client
def test_a_real_client_gets_aes_gcm_if_it_lists_it_else_chacha20_and_aes_ctr_last(proposal: dict[str, Any]) -> None:
    to_server, to_client = listed(proposal)

    cipher = chosen(to_server, offer(to_server, to_client))

    families = [family for family in (AES_GCM, CHACHA20, AES_CTR) if {*family} & {*to_server}]
    assert cipher in families[0]


def test_the_recorded_clients_cover_all_three_families() -> None:
    got = {proposal["gets"].encode() for proposal in PROPOSALS}

    assert all(got & {*family} for family in (AES_GCM, CHACHA20, AES_CTR))
    assert all(proposal["from"] for proposal in PROPOSALS)


def test_whoever_speaks_first_is_offered_all_quickest_first() -> None:
    assert offer([], []) == [*AES_GCM, *CHACHA20, *AES_CTR]
    assert list(EVERY) == offer([], [])


def test_the_clients_order_decides_among_the_ciphers_of_one_family() -> None:
    for preferred in (AES_GCM, AES_GCM[::-1]):
        theirs = [*CHACHA20, *preferred]

        assert chosen(theirs, offer(theirs, theirs)) == preferred[0]


def test_a_family_that_a_client_lists_in_one_direction_only_is_not_offered_alone() -> None:
    both = [*CHACHA20, *AES_CTR]

    assert offer([*AES_GCM, *both], both) == list(CHACHA20)
    assert offer(both, [*both, *AES_GCM]) == list(CHACHA20)


def test_directions_may_differ_within_a_family() -> None:
    to_server, to_client = [AES_GCM[0]], [AES_GCM[1]]

    offered = offer(to_server, to_client)

    assert (chosen(to_server, offered), chosen(to_client, offered)) == AES_GCM


def test_names_are_compared_as_they_are_written() -> None:
    shouted = [name.upper() for name in AES_GCM]

    assert offer([*shouted, *AES_CTR], [*shouted, *AES_CTR]) == list(EVERY)


@given(ciphers, ciphers)
def test_whatever_a_client_lists_nothing_it_could_have_had_is_lost(
    to_server: list[bytes], to_client: list[bytes]
) -> None:
    offered = offer(to_server, to_client)

    possible = chosen(to_server, list(EVERY)) and chosen(to_client, list(EVERY))
    settled = chosen(to_server, offered) and chosen(to_client, offered)
    assert bool(settled) == bool(possible)
    assert {*offered} <= {*EVERY}


@given(ciphers, ciphers)
def test_aes_gcm_is_settled_on_wherever_both_directions_list_it(to_server: list[bytes], to_client: list[bytes]) -> None:
    offered = offer(to_server, to_client)

    listed_both_ways = {*AES_GCM} & {*to_server} and {*AES_GCM} & {*to_client}
    assert ({*offered} == {*AES_GCM}) == bool(listed_both_ways)
