"""How much a visitor may send ahead on one stream (RFC 9113 §6.9), joined to what its service takes."""

from __future__ import annotations

from tunnel_server.adapters.proxy.http2.limits import LARGEST_WINDOW, SPARE_WINDOW, STREAM_WINDOW


class Spare:
    """What all windows of a connection may still grow by, in octets."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = SPARE_WINDOW


class Credit:
    """The receive window of one stream.

    A window is given back only as the service takes what came, so that no more than a window is ever kept; it grows
    while the service keeps up, as far as the connection's ``spare`` goes.
    """

    __slots__ = ("_owed", "_spare", "_window")

    def __init__(self, spare: Spare) -> None:
        self._spare = spare
        self._window = STREAM_WINDOW
        self._owed = 0  # octets taken and not given back

    def taken(self, octets: int) -> None:
        """Note that the service took ``octets``."""
        self._owed += octets

    def due(self) -> int:
        """Return the octets to give back to a service that keeps up, 0 while they are too few for a frame."""
        owed = self._owed
        if owed < self._window >> 1:
            return 0
        growth = max(0, min(self._window, LARGEST_WINDOW - self._window, self._spare.left))
        self._spare.left -= growth
        self._window += growth
        self._owed = 0
        return owed + growth

    def close(self) -> None:
        """The stream is gone: what its window had grown by is for others."""
        self._spare.left += self._window - STREAM_WINDOW
        self._window = STREAM_WINDOW
