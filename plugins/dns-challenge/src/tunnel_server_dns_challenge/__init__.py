"""A name server for the challenges by which a CA proves a domain (DNS-01), and for nothing else."""

from tunnel_server_dns_challenge.plugin import NameServer

__all__ = ["NameServer"]
