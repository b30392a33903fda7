"""A server's life: replaced by the next, told to stop, without anything that it keeps."""

from __future__ import annotations

import subprocess

import pytest
from containers import wait_until
from peers import HOST, PrivateNetwork, Visitor
from rig import need

CHANGED = "REMOTE HOST IDENTIFICATION HAS CHANGED"


@pytest.mark.usefixtures("app")
def test_a_server_that_replaces_another_is_known_to_clients_by_its_volume_and_gives_them_their_urls(
    network: PrivateNetwork, visitor: Visitor, key: bytes, volume: str
) -> None:
    kept = [(volume, "/data", "rw")]
    first = network.server(volumes=kept).started()
    client = network.client(key)
    url = client.url()
    assert first.stop() == 0

    second = network.server(volumes=kept).started()

    assert client.url(hellos=2) == url
    assert visitor.get(url).status == 200
    assert not second.events("storage.not-kept")
    assert second.stop() == 0

    third = network.server().started()

    assert [event["what"] for event in third.events("storage.not-kept")] == ["SSH host key"]
    wait_until(lambda: CHANGED in client.log, "a client that refuses a server without the volume")


@pytest.mark.usefixtures("app")
def test_a_server_that_is_told_to_stop_finishes_what_is_under_way_and_lets_nothing_new_in(
    network: PrivateNetwork, visitor: Visitor, key: bytes
) -> None:
    server = network.server().started()
    url = network.client(key).url()
    with visitor.running("curl", "-sSN", "--connect-to", f"::{HOST}:", url + "held") as download:
        assert download.stdout is not None and download.stdout.read(5) == "begin"

        with subprocess.Popen([need("docker"), "stop", "-t", "30", server.id], stdout=subprocess.DEVNULL):
            wait_until(lambda: visitor.get(url).status == 0, "new connections that are refused")
            assert server.state["Running"]
            visitor.run("curl", "-sS", "http://app:5000/release")

            assert download.communicate(timeout=10)[0] == "+done"
    assert download.returncode == server.ended() == 0


def test_without_a_place_for_its_host_key_it_serves_and_says_so(network: PrivateNetwork, volume: str) -> None:
    server = network.server(volumes=[(volume, "/data", "ro")]).started()

    [told] = server.events("host-key.not-kept")
    assert "read-only" in told["reason"]


def test_a_host_key_that_is_not_where_it_is_said_to_be_is_no_reason_for_another(network: PrivateNetwork) -> None:
    server = network.server(environ={"SSH_HOST_KEY_PATH": "/etc/secret/mistyped"}, read_only=True)

    assert server.ended() == 1
    assert (
        "no SSH host key at /etc/secret/mistyped, and a new one cannot be kept there: Read-only file system"
        in server.log
    )
