"""Who asks on a connection, as its services and the shares of all visitors hear of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunnel_server.domain.forwarding import asked_by, asked_over, visitor_fields
from tunnel_server.domain.share import one_visitor

if TYPE_CHECKING:
    from tunnel_server.adapters.proxy.head import RequestHead


class Introduction:
    """The peer at ``address`` and, if it is a ``trusted`` proxy, for whom it asks.

    ``visitor`` is who asks, as :mod:`tunnel_server.domain.share` has it, unless a proxy says otherwise.
    """

    __slots__ = ("_host", "_peer", "_scheme", "_told", "address", "trusted", "visitor")

    def __init__(self, peer: bytes, trusted: bool, scheme: bytes) -> None:
        self._peer = peer
        self._scheme = scheme
        self._host: bytes | None = None  # of the request before
        self._told = b""  # what a service at that host hears
        self.trusted = trusted
        self.address = peer.decode()
        self.visitor = one_visitor(self.address)

    def knows(self, host: bytes) -> bool:
        """Return whether the request before was for ``host``, which then is served on this connection."""
        return host == self._host

    def scheme(self, request: RequestHead) -> bytes:
        """Return the scheme of the visitor's own connection."""
        return asked_over(request.told, self._scheme) if self.trusted else self._scheme

    def visitor_of(self, request: RequestHead) -> str:
        """Return who asks."""
        return one_visitor(asked_by(request.told) or self.address) if self.trusted else self.visitor

    def access_line(self, request: RequestHead | None) -> dict[str, str]:
        """Return what the access log says of a request, as far as it is known."""
        if request is None:
            return {"address": self.address}
        return {
            "address": self.address,
            "method": request.method.decode(),
            "host": request.host.decode(),
            "path": request.path.decode("latin-1"),
        }

    def fields(self, request: RequestHead) -> bytes:
        """Return the fields that tell a service of the visitor."""
        if self.trusted:
            return visitor_fields(self._peer, self._scheme, request.host, request.told)
        if request.host != self._host:  # the same for every request to one host
            self._host = request.host
            self._told = visitor_fields(self._peer, self._scheme, request.host)
        return self._told
