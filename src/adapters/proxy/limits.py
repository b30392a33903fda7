"""The relay's limits, and what it insists on."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in octets, times in seconds; see docs/reference/settings.md."""

    head_size: int = 64 * 1024
    header_count: int = 100
    head_timeout: float = 15.0
    keepalive_timeout: float = 75.0
    body_timeout: float = 60.0
    response_timeout: float = 600.0
    idle_timeout: float = 3600.0
    max_channels: int = 512
    max_channels_per_client: int = 768
    queue_length: int = 2048
    queue_timeout: float = 10.0
    pool_idle_timeout: float = 30.0
    max_visitors: int = 10_000
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Secure:
    """How HTTPS is insisted on.

    ``force`` sends every visitor to HTTPS; ``authority`` is where, after the label and a dot: the base host, and the
    port if it is not 443; empty where there is no HTTPS. ``redirect`` answers plain HTTP on the TLS port with a
    redirect, not an error. ``hsts`` is the whole line of the field Strict-Transport-Security (RFC 6797) for answers
    over HTTPS; empty for none.
    """

    force: bool = False
    authority: str = ""
    redirect: bool = True
    hsts: bytes = b""
