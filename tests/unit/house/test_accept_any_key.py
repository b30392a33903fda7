from __future__ import annotations

from tunnel_server import Accept
from tunnel_server.house import accept_any_key


def test_every_client_is_accepted() -> None:
    answer = accept_any_key.authenticate_client()

    assert answer == Accept()
