"""A client that is cut from the network, half-open: nobody says that it is gone."""

from __future__ import annotations

import time

import pytest
from containers import wait_until
from peers import HOST, PrivateNetwork, Visitor, publish

MARGIN = 4.0  # seconds for containers to start and programs to run
PROBE = 5.0  # seconds, the default of probe_timeout


@pytest.mark.usefixtures("app")
def test_its_tunnel_goes_once_its_signs_of_life_are_missing(
    network: PrivateNetwork, visitor: Visitor, key: bytes
) -> None:
    often = {"TUNNEL_SERVER_KEEPALIVE_INTERVAL": "1", "TUNNEL_SERVER_KEEPALIVE_COUNT_MAX": "2"}
    network.server(environ=often).started()
    client = network.client(key)
    url = client.url()
    assert visitor.get(url).status == 200

    network.cut(client)
    since = time.monotonic()
    wait_until(lambda: "sshConnections{" not in visitor.get(f"http://{HOST}:8888/metrics").body, "no SSH connection")

    assert time.monotonic() - since < 1 * (2 + 1) + MARGIN
    assert visitor.get(url).status == 502


@pytest.mark.usefixtures("app")
def test_its_owner_has_the_name_again_from_elsewhere_within_the_probe(
    network: PrivateNetwork, visitor: Visitor, key: bytes
) -> None:
    network.server().started()
    client, elsewhere = network.client(key), network.visitor(key=key)
    url = client.url()
    assert visitor.get(url).status == 200

    network.cut(client)
    since = time.monotonic()
    with elsewhere.running(*publish("web")) as newcomer:
        assert newcomer.stdout is not None and url in newcomer.stdout.readline()

        assert PROBE <= time.monotonic() - since < PROBE + MARGIN
        assert visitor.get(url).body == "hello from the app"
