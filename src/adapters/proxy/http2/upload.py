"""A request's body on its way from frames to the service (RFC 9113 §8.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunnel_server.adapters.proxy.body import chunk, last_chunk
from tunnel_server.adapters.proxy.head import CHUNKED
from tunnel_server.adapters.proxy.http2.credit import Credit
from tunnel_server.adapters.proxy.http2.fields import malformed, read_trailers

if TYPE_CHECKING:
    from tunnel_server.adapters.proxy.head import RequestHead
    from tunnel_server.adapters.proxy.http2.credit import Spare
    from tunnel_server.domain.forwarding import Field


class Upload:
    """What came of a body and did not go yet: it waits for a channel, or for the end of the turn it came in.

    So frames that come together leave as one piece; each alone would be a chunk and a packet, however small. No more
    is kept than the stream's window allows. ``ended`` is whether the visitor sends nothing more; a websocket has no
    body, and passes what comes as it is.
    """

    __slots__ = ("_credit", "_head", "_left", "_octets", "_pieces", "_said_end", "_trailers", "ended")

    _head: RequestHead

    def __init__(self, spare: Spare) -> None:
        self.ended = False
        self._credit = Credit(spare)
        self._pieces: list[bytes] = []
        self._octets = 0  # of the windows, that the pieces took with their padding
        self._left = 0  # octets to come of a body whose length is known
        self._trailers: list[Field] = []
        self._said_end = False  # to the service, of a body in chunks

    def begin(self, head: RequestHead) -> None:
        """Expect the body of the request ``head``."""
        self._head = head
        self._left = head.length

    @property
    def waiting(self) -> bool:
        """Whether something came that did not go yet."""
        return bool(self._pieces)

    @property
    def whole(self) -> bool:
        """Whether all of the body went to the service."""
        head = self._head
        if head.upgrade:
            return True
        return not self._pieces and (self._said_end if head.length == CHUNKED else not self._left)

    def add(self, payload: bytes, octets: int) -> None:
        """Take a piece, which with its padding took ``octets`` of the windows.

        Raises:
            StreamViolation: it is more than was announced.
        """
        if self._head.length >= 0 and not self._head.upgrade:
            self._left -= len(payload)
            if self._left < 0:
                raise malformed("more DATA than its content-length")
        self._pieces.append(payload)
        self._octets += octets

    def end(self, trailers: list[Field] | None) -> None:
        """Take the end.

        Raises:
            StreamViolation: it is less than was announced, or the trailers are malformed.
        """
        if trailers:
            self._trailers = read_trailers(trailers)
        if self._head.length > 0 and self._left:
            raise malformed("less DATA than its content-length")

    def measure(self) -> None:
        """Make the length known of a body that is here as a whole: many apps would rather know."""
        if self._head.length == CHUNKED and self.ended and not self._trailers:
            self._head.length = sum(map(len, self._pieces))
            self._left = 0

    def take(self) -> bytes:
        """Return what waits, and the end if it came, as the service is to receive it."""
        payload = b"".join(self._pieces)
        self._pieces.clear()
        self._credit.taken(self._octets)
        self._octets = 0
        if self._head.length != CHUNKED:
            return payload
        if not self.ended or self._said_end:
            return chunk(payload)
        self._said_end = True
        return chunk(payload) + last_chunk(self._trailers)

    def credit(self) -> int:
        """Return the octets that the visitor may send more from now on, since the service keeps up."""
        return 0 if self.ended else self._credit.due()

    def drop(self) -> None:
        """Forget what waits: there is nobody to take it."""
        self._pieces.clear()

    def close(self) -> None:
        """The stream is gone."""
        self._credit.close()
