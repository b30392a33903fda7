"""Everybody who has a key may log in: the key is the identity, so nobody is to be told apart from a stranger."""

from tunnel_server import Accept, hookimpl


@hookimpl
def authenticate_client() -> Accept:
    """Accept every client. A plugin that rejects one still wins."""
    return Accept()
