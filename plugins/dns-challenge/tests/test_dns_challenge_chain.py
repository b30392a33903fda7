"""The whole way: an ACME server asks BIND, which follows the delegation to port 53 of a server that runs."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pebble import Pebble
from rig import Rig, Service, answering, need, plain, until
from structlog.testing import capture_logs
from tunnel_server_dns_challenge import NameServer

from tunnel_server.adapters.plugins.hooks import Hooks, Plugin
from tunnel_server.adapters.plugins.registered import configure, declared_settings
from tunnel_server.app.plugins import house
from tunnel_server.app.settings import Settings

HERE = "127.0.0.77"  # where the plugin has port 53
BASE = "tunnels.test"
ROOT_ZONE = f"""
$TTL 60
@ SOA ns.test. hostmaster.test. 1 3600 600 86400 60
@ NS ns.test.
ns.test. A 127.0.0.1
{BASE}. A {HERE}
*.{BASE}. A {HERE}
_acme-challenge.{BASE}. NS {BASE}.
_acme-challenge.www.elsewhere.test. CNAME _acme-challenge.{BASE}.
www.elsewhere.test. A {HERE}
"""  # the zone of all names, so that nobody outside is asked


class DelegatingPebble(Pebble):
    """A Pebble that asks BIND, which knows by an NS record whom to ask."""

    def start_dns(self) -> None:
        (self._folder / "root.zone").write_text(ROOT_ZONE)
        config = self._folder / "named.conf"
        config.write_text(f"""
            options {{
                directory "{self._folder}"; pid-file none; session-keyfile none; recursion yes;
                listen-on port {self._dns} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
                query-source address 127.0.0.1; dnssec-validation no;
            }};
            controls {{ }};
            zone "." {{ type primary; file "root.zone"; }};
        """)
        self._run([need("named"), "-g", "-c", str(config)], self._dns, {})


@pytest.fixture
def pebble(tmp_path: Path) -> Iterator[DelegatingPebble]:
    try:
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
            probe.bind((HERE, 53))
    except OSError as error:
        reason = f"port 53 of {HERE} cannot be had: {error.strerror}"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    with DelegatingPebble(tmp_path / "pebble") as running:
        yield running


def with_name_server() -> Hooks:
    hooks = Hooks([*house().plugins, Plugin("dns-challenge", "1", "test", NameServer)])
    values = {name: {s.name: s.default for s in found} for name, found in declared_settings(hooks).items()}
    values["dns-challenge"] |= {"listen_host": HERE, "port": 53}
    configure(hooks, values)
    return hooks


async def visit(rig: Rig, pebble: Pebble, host: str) -> bytes:
    context = ssl.create_default_context(cadata=pebble.root().decode())
    context.set_alpn_protocols(["http/1.1"])
    visitor = await rig.connect_tls(context, host)
    await visitor.send("GET", "/healthz", f"Host: {host}")
    return (await visitor.answer()).body


async def test_base_host_wildcard_and_a_host_behind_an_alias_get_certificates(
    pebble: DelegatingPebble, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        **dict.fromkeys(("port", "ssh_port", "metrics_port", "tls_port"), 0),
        **dict.fromkeys(("listen_host", "metrics_host"), "127.0.0.1"),
        "base_url": f"https://{BASE}",
        "ssh_host_key_path": str(tmp_path / "host_key"),
        "acme": pebble.directory_url,
        "acme_ca_file": str(pebble.ca_file),
        "acme_folder": str(tmp_path / "acme"),
        "acme_private_ca": True,
        "acme_hosts": (BASE, f"*.{BASE}", "www.elsewhere.test"),
        "acme_challenges": ("dns-01",),
    }
    with capture_logs() as logs:
        await _issued_and_served(settings, pebble, tmp_path)

    assert "dns-challenge.not-asked" not in [entry["event"] for entry in logs]


async def _issued_and_served(settings: dict[str, Any], pebble: DelegatingPebble, tmp_path: Path) -> None:
    async with Rig(Settings(**settings), tmp_path, with_name_server()) as rig:
        await until(lambda: 'acme_orders_total{outcome="issued"} 3.0' in rig.counted, limit=30)

        assert await visit(rig, pebble, BASE) == b"OK"
        assert await visit(rig, pebble, "www.elsewhere.test") == b"OK"
        async with Service(answering(plain(b"the app's"))) as service, rig.tunnel(service.port) as host:
            assert host.endswith(f".{BASE}")
            assert await visit(rig, pebble, host) == b"the app's"
        assert 'acme_orders_total{outcome="failed"}' not in rig.counted
