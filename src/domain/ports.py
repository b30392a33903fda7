"""What the domain and the relay need of the world, as protocols.

The data path is callbacks, not awaited reads: a channel calls its receiver the moment bytes
arrive, and nothing stands between them.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tunnel_server.domain.tunnel import Client, Tunnel


class ChannelReceiver(Protocol):
    """The side of a channel that hears of what the service behind the tunnel does."""

    @abstractmethod
    def data_received(self, data: bytes) -> None:
        """Take bytes that the service sent."""

    @abstractmethod
    def eof_received(self) -> None:
        """Learn that the service sends nothing more; writing may go on."""

    @abstractmethod
    def connection_lost(self) -> None:
        """Learn that the channel is gone, both ways. Called exactly once, and last."""

    @abstractmethod
    def pause_writing(self) -> None:
        """Stop writing: more is buffered than the service takes."""

    @abstractmethod
    def resume_writing(self) -> None:
        """Write again."""


class Channel(Protocol):
    """A byte stream to the service behind a tunnel. Writing never blocks: heed ``pause_writing``."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send ``data``; on a channel that is closing it is dropped."""

    @abstractmethod
    def write_eof(self) -> None:
        """Say that nothing more will be sent; the service may still answer."""

    @abstractmethod
    def pause_reading(self) -> None:
        """Deliver no more until :meth:`resume_reading`; at most one window is buffered."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Deliver again, what was buffered first."""

    @abstractmethod
    def close(self) -> None:
        """Close once what is unsent was sent; nothing more is delivered. Safe to repeat."""

    @abstractmethod
    def abort(self) -> None:
        """Close both ways at once and drop what is unsent. Safe to repeat."""


class Transport(Protocol):
    """A client's live connection, through which its services are reached."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether the connection is gone; once true it stays so. Ask again after every await."""

    @abstractmethod
    async def open_channel(self, request: str, receiver: ChannelReceiver) -> Channel:
        """Open a channel to the service forwarded by the request string ``request``.

        Raises:
            ChannelRefused: the client is gone, refused the channel, or did not answer in time.
        """

    @abstractmethod
    async def probe(self) -> bool:
        """Ask the client for a sign of life; false if none came in the probe's time limit."""

    @abstractmethod
    def close(self, reason: str) -> None:
        """Cut the connection off, telling the peer ``reason``. All its tunnels close. Repeatable."""


class TunnelDesk(Protocol):
    """Opens and closes tunnels for connected clients, contested names included."""

    @abstractmethod
    async def open(self, request: str, client: Client, transport: Transport) -> Tunnel:
        """Publish what the forward request string ``request`` asks for.

        A contested label may take a probe's time limit to settle.

        Raises:
            TunnelServerError: why it is refused; the text may be shown to ``client``.
        """

    @abstractmethod
    async def url(self, name: str, client: Client) -> str:
        """Return the URL that ``client`` would get for ``name``; one leading ``/`` is no part of it.

        Raises:
            TunnelServerError: why it would get none.
        """

    @abstractmethod
    def close(self, tunnel: Tunnel) -> None:
        """End ``tunnel``. Safe to repeat."""

    @abstractmethod
    def held_by(self, transport: Transport) -> list[Tunnel]:
        """Return the live tunnels of one connection, in the order they were opened."""


class TunnelEvents(Protocol):
    """Hears of tunnels as they open and close, inside the registry's atomic changes."""

    @abstractmethod
    def tunnel_opened(self, tunnel: Tunnel) -> None:
        """A tunnel answers from now on."""

    @abstractmethod
    def tunnel_closed(self, tunnel: Tunnel) -> None:
        """A tunnel answers no more."""


class DnsChallenge(Protocol):
    """Publishes TXT records (RFC 8555 §8.4). Several values may stand under one name at once."""

    @abstractmethod
    async def publish(self, name: str, value: str) -> None:
        """Publish ``value`` under ``name`` and return once all the zone's servers answer with it. May raise."""

    @abstractmethod
    async def remove(self, name: str, value: str) -> None:
        """Take ``value`` back, also if publishing it failed half way. May raise."""
