"""Quotas for a tunnel server: how many tunnels a key may have, and how much its visitors may ask for."""

from tunnel_server_quotas.plugin import Quotas

__all__ = ["Quotas"]
