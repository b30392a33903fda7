from __future__ import annotations

import pytest
from fakes.transport import FakeEvents, FakeTransport

from tunnel_server.domain.errors import DuplicateForward, LabelTaken
from tunnel_server.domain.forward import ForwardRequest
from tunnel_server.domain.identity import ClientId, Thumbprint
from tunnel_server.domain.registry import TunnelRegistry
from tunnel_server.domain.tunnel import Client

WEB = ForwardRequest.parse("/web")
API = ForwardRequest.parse("/api#access=private")


def client(name: str = "k3y1d", print_of: str = "A") -> Client:
    return Client(
        ClientId(name), Thumbprint("urn:ietf:params:oauth:jwk-thumbprint:sha-256:" + print_of * 43), "me", "::1"
    )


def test_a_tunnel_is_found_until_it_is_closed() -> None:
    events = FakeEvents()
    registry = TunnelRegistry(events)

    tunnel = registry.open(WEB, client(), FakeTransport(), 1.0)

    assert registry.find("web-k3y1d") is tunnel
    assert events.open == [tunnel]

    registry.close(tunnel)
    registry.close(tunnel)

    assert registry.find("web-k3y1d") is None
    assert events.open == []
    assert len(registry) == 0


def test_a_label_held_by_another_connection_is_refused() -> None:
    registry = TunnelRegistry(FakeEvents())
    first = registry.open(WEB, client(), FakeTransport(), 1.0)

    with pytest.raises(LabelTaken) as refused:
        registry.open(WEB, client(), FakeTransport(), 2.0)

    assert refused.value.holder is first
    assert registry.find("web-k3y1d") is first


def test_the_same_connection_cannot_hold_a_label_twice() -> None:
    registry, transport = TunnelRegistry(FakeEvents()), FakeTransport()
    registry.open(WEB, client(), transport, 1.0)

    with pytest.raises(DuplicateForward):
        registry.open(ForwardRequest.parse("/web#access=private"), client(), transport, 2.0)


def test_closing_a_predecessor_leaves_its_successor() -> None:
    registry = TunnelRegistry(FakeEvents())
    first = registry.open(WEB, client(), FakeTransport(), 1.0)
    registry.close(first)
    second = registry.open(WEB, client(), FakeTransport(), 2.0)

    registry.close(first)

    assert registry.find("web-k3y1d") is second


def test_tunnels_are_listed_by_connection_and_by_key() -> None:
    registry, mine, other = TunnelRegistry(FakeEvents()), FakeTransport(), FakeTransport()
    web = registry.open(WEB, client(), mine, 1.0)
    api = registry.open(API, client(), mine, 1.0)
    registry.open(WEB, client("0ther", "B"), other, 1.0)

    assert registry.held_by(mine) == [web, api]
    assert registry.of_profile(web.client.thumbprint) == [web, api]

    registry.close(web)
    registry.close(api)

    assert registry.held_by(mine) == []
    assert registry.of_profile(web.client.thumbprint) == []


def test_a_tunnel_is_found_by_each_of_its_names_until_it_is_closed() -> None:
    registry = TunnelRegistry(FakeEvents())

    tunnel = registry.open(WEB, client(), FakeTransport(), 1.0, ("shop", "app.example.com", "*.preview.example.com"))

    assert tunnel.label == "shop"
    names = ["shop", "app.example.com", "pr-1.preview.example.com"]
    assert [registry.find(name) for name in names] == [tunnel] * 3
    others = ["web-k3y1d", "preview.example.com", "a.b.preview.example.com", "x.app.example.com"]
    assert [registry.find(name) for name in others] == [None] * 4
    registry.close(tunnel)
    assert [registry.find(name) for name in names] == [None] * 3
    assert len(registry) == 0


def test_a_tunnel_gets_all_of_its_names_or_none() -> None:
    registry = TunnelRegistry(FakeEvents())
    first = registry.open(WEB, client(), FakeTransport(), 1.0, ("shop",))

    with pytest.raises(LabelTaken):
        registry.open(API, client("other"), FakeTransport(), 2.0, ("free", "shop"))

    assert registry.find("free") is None
    assert registry.all() == [first]
