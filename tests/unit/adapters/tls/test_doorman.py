"""What the doorman of the TLS port does with first bytes, without a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from fakes.wire import FakeWire

from tunnel_server.adapters.tls.doorman import Doorman, Gate
from tunnel_server.adapters.tls.lobby import Lobby
from tunnel_server.adapters.tls.turns import Turns
from tunnel_server.domain import client_hello


class AtOnce(Turns):
    """Makes nobody wait."""

    def add(self, address: str, step: Callable[[], None]) -> None:
        step()


async def test_a_beginning_is_looked_at_once_a_record_and_not_once_a_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    monkeypatch.setattr(client_hello, "read", lambda data: looks.append(len(data)))
    nothing = cast(Any, None)
    gate = Gate(nothing, nothing, Lobby(10), AtOnce(), lambda outcome: None, frozenset(), 10.0, None)
    doorman = Doorman(gate)
    doorman.connection_made(FakeWire())
    record = b"\x16\x03\x01\x00\x64" + bytes(100)
    for octet in record * 3:
        doorman.data_received(bytes([octet]))

    assert looks == [105, 210, 315]
