from __future__ import annotations

import pytest

from tunnel_server.app.settings import Settings
from tunnel_server.app.welcome import welcome


@pytest.mark.parametrize(
    ("base_url", "ssh_port", "line"),
    [
        ("http://localhost:3000", 2222, "ssh -p 2222 -R /my-tunnel:localhost:5000 localhost hello"),
        ("https://tunnels.example.com", 22, "ssh -R /my-tunnel:localhost:5000 tunnels.example.com hello"),
    ],
)
def test_it_tells_the_line_to_type_next(base_url: str, ssh_port: int, line: str) -> None:
    text = welcome(Settings(base_url=base_url), ssh_port)

    assert f"\n    {line}\n" in text
    assert f"Serving {base_url}/\n" in text
