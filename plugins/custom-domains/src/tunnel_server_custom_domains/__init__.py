"""Tunnels on whole host names, such as ``app.example.com``, for those who prove that the name is theirs."""

from tunnel_server_custom_domains.plugin import CustomDomains

__all__ = ["CustomDomains"]
