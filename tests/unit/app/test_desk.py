from __future__ import annotations

import pytest
from fakes.policies import FakeTunnelPolicies
from fakes.transport import FakeEvents, FakeTransport

from tunnel_server.app.desk import Desk, DeskLimits
from tunnel_server.domain.errors import ChannelRefused, InvalidForwardRequest, NameInUse, TooManyTunnels
from tunnel_server.domain.identity import ClientId, Thumbprint
from tunnel_server.domain.naming import BaseUrl
from tunnel_server.domain.registry import TunnelRegistry
from tunnel_server.domain.rules import TunnelPolicies
from tunnel_server.domain.tunnel import Client


def somebody(thumbprint: str = "A") -> Client:
    urn = "urn:ietf:params:oauth:jwk-thumbprint:sha-256:" + thumbprint * 43
    return Client(ClientId("abcd1234"), Thumbprint(urn), "env", "192.0.2.7")


def new_desk(max_tunnels: int = 10, policies: TunnelPolicies | None = None, has_https: bool = True) -> Desk:
    base = BaseUrl.parse("http://tunnels.test:3000")
    limits = DeskLimits(max_tunnels, has_https)
    return Desk(TunnelRegistry(FakeEvents()), policies or FakeTunnelPolicies(), base, limits, lambda: 1_700_000_000.0)


async def test_a_dead_holder_loses_its_name_to_the_newcomer() -> None:
    desk, dead, fresh = new_desk(), FakeTransport(alive=False), FakeTransport()
    await desk.open("/web", somebody(), dead)

    tunnel = await desk.open("/web", somebody(), fresh)

    assert desk.held_by(fresh) == [tunnel]
    assert desk.held_by(dead) == []
    assert dead.reason is not None


async def test_a_live_holder_of_the_same_key_is_described() -> None:
    desk = new_desk()
    await desk.open("/web", somebody(), FakeTransport())

    with pytest.raises(NameInUse, match=r"from 192\.0\.2\.7 has held 'web-abcd1234' since 2023-11-14 22:13:20 UTC"):
        await desk.open("/web", somebody(), FakeTransport())


async def test_a_live_holder_of_another_key_is_not_described_even_if_the_client_ids_agree() -> None:
    desk = new_desk()
    await desk.open("/web", somebody("A"), FakeTransport())

    with pytest.raises(NameInUse) as refused:
        await desk.open("/web", somebody("B"), FakeTransport())

    assert "192.0.2.7" not in str(refused.value)
    assert "since" not in str(refused.value)


async def test_another_key_takes_no_name_over_not_even_from_the_silent() -> None:
    desk, silent = new_desk(), FakeTransport(alive=False)
    await desk.open("/web", somebody("A"), silent)

    with pytest.raises(NameInUse):
        await desk.open("/web", somebody("B"), FakeTransport())
    assert not silent.closed
    assert silent.probes == 0


async def test_a_newcomer_that_died_while_the_holder_was_probed_gets_nothing() -> None:
    desk, newcomer = new_desk(), FakeTransport()

    class Holder(FakeTransport):
        async def probe(self) -> bool:
            newcomer.close("gone")
            return False

    await desk.open("/web", somebody(), Holder())

    with pytest.raises(ChannelRefused):
        await desk.open("/web", somebody(), newcomer)
    assert desk.held_by(newcomer) == []


async def test_a_holder_that_gave_up_its_name_while_it_was_probed_makes_room_and_lives() -> None:
    desk = new_desk()

    class Holder(FakeTransport):
        async def probe(self) -> bool:
            for tunnel in desk.held_by(self):
                desk.close(tunnel)
            return True

    holder, newcomer = Holder(), FakeTransport()
    await desk.open("/web", somebody(), holder)

    await desk.open("/web", somebody(), newcomer)

    assert len(desk.held_by(newcomer)) == 1
    assert not holder.closed


async def test_one_connection_holds_a_bounded_number() -> None:
    desk, transport = new_desk(max_tunnels=1), FakeTransport()
    await desk.open("/one", somebody(), transport)

    with pytest.raises(TooManyTunnels):
        await desk.open("/two", somebody(), transport)


async def test_a_request_that_cannot_be_read_opens_nothing() -> None:
    desk, transport = new_desk(), FakeTransport()

    with pytest.raises(InvalidForwardRequest):
        await desk.open("/web#access=open", somebody(), transport)
    assert desk.held_by(transport) == []
