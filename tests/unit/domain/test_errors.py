from __future__ import annotations

from pathlib import Path

from tunnel_server.domain.errors import TunnelServerError

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "errors.md"


def test_every_code_is_its_own_and_on_the_page() -> None:
    codes = [kind.code for kind in (TunnelServerError, *TunnelServerError.__subclasses__())]

    assert len(set(codes)) == len(codes)
    page = PAGE.read_text()
    assert [code for code in codes if f"| `{code}` |" not in page] == []
