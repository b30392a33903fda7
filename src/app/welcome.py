"""What a person sees who starts the server on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunnel_server.domain.naming import BaseUrl

if TYPE_CHECKING:
    from tunnel_server.app.settings import Settings


def ssh_line(base: BaseUrl, ssh_port: int) -> str:
    """Return the command that opens a first tunnel, to type as it is."""
    port = "" if ssh_port == 22 else f"-p {ssh_port} "
    return f"ssh {port}-R /my-tunnel:localhost:5000 {base.hostname.strip('[]')} hello"


def welcome(settings: Settings, ssh_port: int) -> str:
    """Return where the server is, and what to try next."""
    base = BaseUrl.parse(settings.base_url)
    return f"\nServing {base.root_url}\n\nPublish what listens on your port 5000:\n\n    {ssh_line(base, ssh_port)}\n"
