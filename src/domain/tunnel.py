"""A live tunnel and the client that owns it."""

from __future__ import annotations

from dataclasses import dataclass
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
    peer's IP address as text.
    """

    id: ClientId
    thumbprint: Thumbprint
    user: str
    address: str


@dataclass(frozen=True, slots=True, eq=False)
class Tunnel:
    """A published name. Compared by identity: a successor on the same label is another tunnel.

    ``opened_at`` is seconds since the epoch.
    """

    label: str
    request: ForwardRequest
    client: Client
    transport: Transport
    opened_at: float
