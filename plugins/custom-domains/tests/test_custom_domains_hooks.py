"""The hooks, called as the server calls them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dns.rcode
import pytest
from tunnel_server_custom_domains import CustomDomains
from tunnel_server_custom_domains.fingerprints import fingerprint
from tunnel_server_custom_domains.watch import holdings

from tunnel_server import Client, ForwardRequest, Reject

MakeClient = Callable[..., Client]


def asking(name: str) -> ForwardRequest:
    return ForwardRequest.parse("/" + name)


def value(client: Client) -> str:
    return f"tunnel-server={fingerprint(client.public_key)}"


async def look(plugin: CustomDomains, server: Any) -> None:
    """Look at the live tunnels now."""
    plugin._lookups._cache.clear()  # type: ignore[union-attr]  # so that nothing is fresh
    await plugin._watch.look(server, holdings(server.tunnels(), plugin._domain_of))


async def test_a_domain_whose_record_names_the_key_is_given(
    zone: Any, make_plugin: Any, make_client: MakeClient
) -> None:
    plugin, client = await make_plugin(), make_client()
    zone.put("_tunnel.app.example.com", value(make_client(b"b")), value(client))
    zone.put("_tunnel.preview.example.com", value(client))

    assert await plugin.name_tunnel(client, asking("App.Example.com#access=private")) == "app.example.com"
    assert await plugin.name_tunnel(client, asking("*.preview.example.com")) == "*.preview.example.com"


async def test_another_name_is_left_to_others_without_a_lookup(
    zone: Any, make_plugin: Any, make_client: MakeClient
) -> None:
    plugin = await make_plugin()

    for name in "my-tunnel", "web.v2", "x.tunnels.host.example":
        assert await plugin.name_tunnel(make_client(), asking(name)) is None
    assert zone.asked == []


async def test_the_refusal_tells_exactly_which_record_to_create(make_plugin: Any, make_client: MakeClient) -> None:
    plugin, client = await make_plugin(), make_client()

    answer = await plugin.name_tunnel(client, asking("app.example.com"))

    assert answer == Reject(
        f'create the TXT record _tunnel.app.example.com with the value "{value(client)}", '
        "and point app.example.com at tunnels.host.example by a CNAME record"
    )


async def test_the_top_of_a_zone_is_not_told_to_have_a_cname(make_plugin: Any, make_client: MakeClient) -> None:
    answer = await (await make_plugin()).name_tunnel(make_client(), asking("example.com"))

    assert "ALIAS" in answer.reason
    assert "CNAME" not in answer.reason


async def test_a_record_with_another_key_is_told_apart_from_none(
    zone: Any, make_plugin: Any, make_client: MakeClient
) -> None:
    plugin, client = await make_plugin(), make_client()
    zone.put("_tunnel.app.example.com", value(make_client(b"b")))

    answer = await plugin.name_tunnel(client, asking("app.example.com"))

    assert answer.reason.startswith("_tunnel.app.example.com does not name your key: create")
    assert value(client) in answer.reason


async def test_a_fingerprint_in_the_wrong_case_proves_nothing(
    zone: Any, make_plugin: Any, make_client: MakeClient
) -> None:
    plugin, client = await make_plugin(), make_client()
    zone.put("_tunnel.app.example.com", value(client).lower())

    assert isinstance(await plugin.name_tunnel(client, asking("app.example.com")), Reject)


async def test_an_outage_refuses_and_says_so(zone: Any, make_plugin: Any, make_client: MakeClient) -> None:
    zone.rcodes["_tunnel.app.example.com"] = dns.rcode.SERVFAIL

    answer = await (await make_plugin()).name_tunnel(make_client(), asking("app.example.com"))

    assert "no name server could tell" in answer.reason


async def test_a_public_suffix_is_refused(make_plugin: Any, make_client: MakeClient) -> None:
    answer = await (await make_plugin()).name_tunnel(make_client(), asking("*.co.uk"))

    assert "public suffix" in answer.reason


async def test_a_parents_record_counts_only_if_the_setting_says_so(
    zone: Any, make_plugin: Any, make_client: MakeClient
) -> None:
    client = make_client()
    zone.put("_tunnel.example.com", value(client))

    assert isinstance(await (await make_plugin()).name_tunnel(client, asking("a.b.example.com")), Reject)
    assert await (await make_plugin(parents=True)).name_tunnel(client, asking("a.b.example.com")) == "a.b.example.com"


async def test_a_parent_that_cannot_be_asked_makes_no_absence(
    zone: Any, make_plugin: Any, make_client: MakeClient
) -> None:
    zone.rcodes["_tunnel.example.com"] = dns.rcode.SERVFAIL

    answer = await (await make_plugin(parents=True)).name_tunnel(make_client(), asking("a.example.com"))

    assert "no name server could tell" in answer.reason


async def test_a_client_that_causes_too_many_lookups_is_held_up_alone(
    zone: Any, make_plugin: Any, make_client: MakeClient
) -> None:
    plugin, greedy, modest = await make_plugin(lookups_per_minute=2), make_client(), make_client(b"b", "192.0.2.8")
    zone.put("_tunnel.mine.example.com", value(modest))

    answers = [await plugin.name_tunnel(greedy, asking(f"a{number}.example.com")) for number in range(3)]

    assert "too many look-ups" in answers[2].reason
    same_address = await plugin.name_tunnel(make_client(b"c"), asking("b.example.com"))
    assert "too many look-ups" in same_address.reason  # another key helps nobody
    assert await plugin.name_tunnel(modest, asking("mine.example.com")) == "mine.example.com"


async def test_the_map_file_gives_domains_without_a_lookup(
    zone: Any, make_plugin: Any, make_client: MakeClient, tmp_path: Path
) -> None:
    client, path = make_client(), tmp_path / "domains"
    path.write_text(f"*.example.com {fingerprint(client.public_key)}\n")
    plugin = await make_plugin(map_file=str(path), dns=False)

    assert await plugin.name_tunnel(client, asking("app.example.com")) == "app.example.com"
    answer = await plugin.name_tunnel(client, asking("app.example.org"))
    assert fingerprint(client.public_key) in answer.reason
    assert zone.asked == []


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"dns": False}, "map_file"),
        ({"map_file": "/nowhere/domains"}, "/nowhere/domains"),
        ({"cache_shortest": 9.0, "cache_longest": 1.0}, "cache_shortest"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], named: str) -> None:
    plugin = CustomDomains()
    values = {setting.name: setting.default for setting in plugin.register_settings()}

    with pytest.raises(ValueError, match=named):
        plugin.configure({**values, **settings})


# Live tunnels


async def test_a_record_that_vanished_closes_the_tunnel_after_enough_answers_in_a_row(
    zone: Any, server: Any, make_plugin: Any, make_client: MakeClient
) -> None:
    plugin, client = await make_plugin(recheck_failures=3), make_client()
    tunnel = server.open(client, "app.example.com", "app.example.com")
    zone.put("_tunnel.app.example.com", value(client))

    await look(plugin, server)
    zone.texts.clear()
    await look(plugin, server)
    await look(plugin, server)
    assert server.closed == []
    await look(plugin, server)

    assert [closed for closed, _ in server.closed] == [tunnel]


async def test_a_record_that_comes_back_starts_the_count_again(
    zone: Any, server: Any, make_plugin: Any, make_client: MakeClient
) -> None:
    plugin, client = await make_plugin(recheck_failures=2), make_client()
    server.open(client, "app.example.com", "app.example.com")

    for present in False, True, False:
        zone.texts = {"_tunnel.app.example.com": [[value(client).encode()]]} if present else {}
        await look(plugin, server)

    assert server.closed == []


async def test_an_outage_closes_nothing_however_long(
    zone: Any, server: Any, make_plugin: Any, make_client: MakeClient
) -> None:
    plugin, client = await make_plugin(recheck_failures=1, lookup_timeout=0.3), make_client()
    server.open(client, "app.example.com", "app.example.com")
    server.open(client, "b.example.com", "b.example.com")
    zone.rcodes["_tunnel.app.example.com"] = dns.rcode.SERVFAIL
    zone.silent.add("_tunnel.b.example.com")

    for _ in range(3):
        await look(plugin, server)

    assert server.closed == []


async def test_tunnels_that_this_plugin_did_not_name_are_no_affair_of_it(
    zone: Any, server: Any, make_plugin: Any, make_client: MakeClient
) -> None:
    plugin = await make_plugin(recheck_failures=1)
    server.open(make_client(), "web", "web-abcdefgh")
    server.open(make_client(), "web", "app.example.com")
    server.open(make_client(), "app.example.com", "app-example-com-abcdefgh")

    await look(plugin, server)

    assert server.closed == []
    assert zone.asked == []


async def test_proofs_are_looked_at_again_by_themselves(
    zone: Any, server: Any, make_plugin: Any, make_client: MakeClient
) -> None:
    await make_plugin(recheck_interval=0.05, recheck_failures=1)
    server.open(make_client(), "app.example.com", "app.example.com")

    async with asyncio.timeout(10):
        while not server.closed:
            await asyncio.sleep(0.01)


async def test_what_the_operator_takes_back_in_the_map_ends_at_once_unless_a_record_proves_it(
    zone: Any, server: Any, make_plugin: Any, make_client: MakeClient, tmp_path: Path
) -> None:
    client, path = make_client(), tmp_path / "domains"
    path.write_text(f"*.example.com {fingerprint(client.public_key)}\n")
    plugin = await make_plugin(map_file=str(path))
    gone = server.open(client, "app.example.com", "app.example.com")
    proved = server.open(client, "b.example.com", "b.example.com")
    zone.put("_tunnel.b.example.com", value(client))

    path.write_text("# nobody\n")
    await plugin._file.look(plugin._map_changed)
    await asyncio.gather(server.tasks[-1])

    assert [closed for closed, _ in server.closed] == [gone]
    assert server.live == [proved]


# Certificates


async def test_a_certificate_is_ordered_only_while_the_proof_holds(
    zone: Any, server: Any, make_plugin: Any, make_client: MakeClient
) -> None:
    plugin, client = await make_plugin(), make_client()
    server.open(client, "app.example.com", "app.example.com")
    server.open(client, "*.preview.example.com", "*.preview.example.com")
    zone.put("_tunnel.preview.example.com", value(client))
    zone.rcodes["_tunnel.down.example.com"] = dns.rcode.SERVFAIL
    server.open(client, "down.example.com", "down.example.com")

    assert await plugin.prove_domain("x.preview.example.com") is True
    assert await plugin.prove_domain("app.example.com") is False
    assert await plugin.prove_domain("down.example.com") is False
    assert await plugin.prove_domain("nobody.example.com") is False


async def test_names_of_the_server_and_of_other_plugins_are_no_affair_of_it(
    server: Any, make_plugin: Any, make_client: MakeClient
) -> None:
    plugin = await make_plugin()
    server.open(make_client(), "web", "app.example.com")

    assert await plugin.prove_domain("web-abcdefgh.tunnels.host.example") is None
    assert await plugin.prove_domain("app.example.com") is None


async def test_visitors_cause_one_lookup_a_minute(
    zone: Any, server: Any, make_plugin: Any, make_client: MakeClient
) -> None:
    plugin, client = await make_plugin(), make_client()
    server.open(client, "app.example.com", "app.example.com")
    zone.put("_tunnel.app.example.com", value(client))

    for _ in range(20):
        assert await plugin.prove_domain("app.example.com")

    assert len(zone.asked) == 1


async def test_what_was_known_a_while_ago_proves_nothing_to_a_ca(
    zone: Any, server: Any, make_plugin: Any, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin, client = await make_plugin(), make_client()
    server.open(client, "app.example.com", "app.example.com")
    zone.put("_tunnel.app.example.com", value(client))
    assert await plugin.prove_domain("app.example.com") is True

    zone.texts.clear()
    monkeypatch.setattr("tunnel_server_custom_domains.plugin.CERTIFICATE_AGE", 0.0)

    assert await plugin.prove_domain("app.example.com") is False
