"""A whole server that gets its certificates from a real ACME server, which proves them at its ports."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pebble import Pebble, PebbleDns
from rig import Rig, Service, answering, plain, until, with_plugins

from tunnel_server import DnsChallenge, ForwardRequest, hookimpl
from tunnel_server.domain.errors import InvalidSetting


@pytest.fixture
def pebble(tmp_path: Path) -> Iterator[Pebble]:
    with Pebble(tmp_path / "pebble") as running:
        yield running


def settings(pebble: Pebble, tmp_path: Path, **more: Any) -> dict[str, Any]:
    return {
        "port": pebble.http_port,
        "tls_port": pebble.tls_port,
        "acme": pebble.directory_url,
        "acme_ca_file": str(pebble.ca_file),
        "acme_folder": str(tmp_path / "acme"),
        "acme_private_ca": True,
        **more,
    }


async def trusted(rig: Rig, pebble: Pebble, host: str) -> bytes | None:
    """Ask once over TLS, believing the ACME server's certificates only; nothing if there is none for the host."""
    context = ssl.create_default_context(cadata=pebble.root().decode())
    context.set_alpn_protocols(["http/1.1"])
    try:
        visit = await rig.connect_tls(context, host)
    except (ssl.SSLError, ConnectionError):
        return None
    await visit.send("GET", "/healthz", f"Host: {host}")
    return (await visit.answer()).body


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
async def test_a_fixed_host_is_proved_at_the_servers_own_ports(
    make_rig: Callable[..., Any], pebble: Pebble, tmp_path: Path, challenge: str
) -> None:
    values = settings(pebble, tmp_path, acme_hosts=("tunnels.test",), acme_challenges=(challenge,), force_https=True)
    async with make_rig(**values) as rig:
        await until(lambda: 'acme_orders_total{outcome="issued"} 1.0' in rig.counted)

        assert await trusted(rig, pebble, "tunnels.test") == b"OK"
        assert await trusted(rig, pebble, "other.test") is None

    async with make_rig(**values) as rig:  # kept on disk, and not ordered again
        assert await trusted(rig, pebble, "tunnels.test") == b"OK"
        assert 'outcome="issued"' not in rig.counted
    assert [folder.name for folder in (tmp_path / "acme").iterdir()] == [f"127.0.0.1_{pebble.port}_dir"]


async def test_a_fresh_tunnel_gets_its_certificate_when_a_visitor_asks_for_it(
    make_rig: Callable[..., Any], pebble: Pebble, tmp_path: Path
) -> None:
    values = settings(pebble, tmp_path, acme_hosts=("tunnels.test",), acme_on_demand=True, acme_labels=True)
    async with make_rig(**values) as rig, Service(answering(plain(b"hello"))) as service:
        async with rig.tunnel(service.port) as host:
            async with asyncio.timeout(20):
                while await trusted(rig, pebble, host) != b"hello":
                    await asyncio.sleep(0.05)
            assert await trusted(rig, pebble, f"nobody-{host}") is None

        assert 'acme_orders_total{outcome="issued"} 2.0' in rig.counted


async def test_labels_under_the_base_host_are_not_ordered_unless_that_is_asked_for(
    make_rig: Callable[..., Any], pebble: Pebble, tmp_path: Path
) -> None:
    values = settings(pebble, tmp_path, acme_hosts=("tunnels.test",), acme_on_demand=True)
    async with make_rig(**values) as rig, Service(answering(plain(b"hello"))) as service:
        async with rig.tunnel(service.port) as host:
            assert await trusted(rig, pebble, host) is None
            await until(lambda: 'acme_orders_total{outcome="refused"} 1.0' in rig.counted)


async def test_an_app_has_its_own_paths_below_the_challenges(
    make_rig: Callable[..., Any], pebble: Pebble, tmp_path: Path
) -> None:
    async with make_rig(**settings(pebble, tmp_path, acme_hosts=("tunnels.test",))) as rig:
        async with Service(answering(plain(b"the app's"))) as service, rig.tunnel(service.port) as host:
            answer = await rig.get(host, "/.well-known/acme-challenge/token")
        missing = await rig.get("tunnels.test", "/.well-known/acme-challenge/token")

    assert (answer.body, missing.status) == (b"the app's", 404)


async def test_a_plugin_publishes_what_proves_a_wildcard(
    make_rig: Callable[..., Any], pebble: Pebble, tmp_path: Path
) -> None:
    dns = PebbleDns(pebble)

    class Zone:
        @hookimpl
        def dns_challenge(self) -> DnsChallenge:
            return dns

    values = settings(pebble, tmp_path, acme_hosts=("*.tunnels.test",))
    async with make_rig(plugins=with_plugins(zone=Zone), **values) as rig, Service(answering(plain(b"app"))) as service:
        await until(lambda: 'acme_orders_total{outcome="issued"} 1.0' in rig.counted)
        async with rig.tunnel(service.port) as host:
            assert await trusted(rig, pebble, host) == b"app"

    assert dns.published == ["_acme-challenge.tunnels.test"]
    assert dns.standing == set()


async def test_a_wildcard_needs_a_plugin_that_publishes(
    make_rig: Callable[..., Any], pebble: Pebble, tmp_path: Path
) -> None:
    with pytest.raises(InvalidSetting, match="needs a plugin"):
        async with make_rig(**settings(pebble, tmp_path, acme_hosts=("*.tunnels.test",))):
            pass


async def test_a_whole_host_name_gets_its_certificate_on_demand_if_no_plugin_objects(
    make_rig: Callable[..., Any], pebble: Pebble, tmp_path: Path
) -> None:
    class Domains:
        @hookimpl
        def name_tunnel(self, request: ForwardRequest) -> str:
            return request.name

        @hookimpl
        async def prove_domain(self, host: str) -> bool:
            return host == "good.test"

    values = settings(pebble, tmp_path, acme_on_demand=True)
    hooks = with_plugins(domains=Domains)
    async with make_rig(plugins=hooks, **values) as rig, Service(answering(plain(b"hello"))) as service:
        async with rig.client() as client:
            for host in ("good.test", "bad.test"):
                await client.forward_remote_path_to_port(host, "127.0.0.1", service.port)
            assert await trusted(rig, pebble, "bad.test") is None
            await until(lambda: 'acme_orders_total{outcome="refused"} 1.0' in rig.counted)
            async with asyncio.timeout(20):
                while await trusted(rig, pebble, "good.test") != b"hello":
                    await asyncio.sleep(0.05)

            assert await trusted(rig, pebble, "bad.test") is None
        assert 'acme_orders_total{outcome="issued"} 1.0' in rig.counted
