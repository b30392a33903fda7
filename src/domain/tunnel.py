"""A live tunnel and the client that owns it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunnel_server.domain.forward import ForwardRequest
    from tunnel_server.domain.identity import ClientId, Thumbprint
    from tunnel_server.domain.ports import Transport


class Access(StrEnum):
    """Who may visit a tunnel; the values are those of the ``access`` forward parameter."""

    PUBLIC = "public"
    PRIVATE = "private"


@dataclass(frozen=True, slots=True)
class Client:
    """The owner of one SSH connection, known only after its signature was verified.

    ``user`` is the SSH user name, the client's environment id: free text. ``address`` is the
    peer's IP address as text. ``public_key`` is in SSH wire format (RFC 4253 §6.6). ``attributes`` are what
    policies noted of the client when they accepted it.
    """

    id: ClientId
    thumbprint: Thumbprint
    user: str
    address: str
    public_key: bytes = field(default=b"", repr=False)
    attributes: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, eq=False)
class Tunnel:
    """What is published under one name or several. Compared by identity: a successor is another tunnel.

    ``label`` is its first name: a label under the base host or, with a dot in it, a whole host name. ``names`` are
    all. ``opened_at`` is seconds since the epoch.
    """

    label: str
    request: ForwardRequest
    client: Client
    transport: Transport
    opened_at: float
    other_names: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every name it answers to, the first one first."""
        return (self.label, *self.other_names)
