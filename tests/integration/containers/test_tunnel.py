"""The image among others: a tunnel from end to end, what is told of it, and how long its server lives."""

from __future__ import annotations

import pytest
from peers import HOST, PrivateNetwork, Visitor

METRICS = f"http://{HOST}:8888/metrics"


@pytest.mark.usefixtures("app")
def test_an_openssh_client_publishes_an_app_to_a_visitor(network: PrivateNetwork, visitor: Visitor, key: bytes) -> None:
    server = network.server().started()

    url = network.client(key).url()
    answer = visitor.get(url)

    client_id = url.split(".")[0].rpartition("-")[2]
    assert (answer.status, answer.body) == (200, "hello from the app")
    assert visitor.get(f"http://{HOST}:3000/healthz").body == "OK"
    assert visitor.get(f"http://nobody.{HOST}:3000/").status == 502
    counted = visitor.get(METRICS).body
    assert f'requests{{clientId="{client_id}",serviceName="preevy-tunnel-server"}} 1\n' in counted, counted
    assert server.tried("tunnel-server", "healthcheck").returncode == 0
