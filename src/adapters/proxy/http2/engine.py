"""h2, as it is used here: it keeps the states of the connection and its streams, the windows, the settings.

Fields are read and written by :mod:`tunnel_server.adapters.proxy.http2.compression` in its place, and are checked by
us: h2 would end the connection for a fault of one stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import Event
from h2.exceptions import H2Error, ProtocolError
from h2.settings import SettingCodes, Settings

from tunnel_server.adapters.proxy.http2.compression import FieldDecoder, FieldEncoder
from tunnel_server.adapters.proxy.http2.frames import PREFACE
from tunnel_server.adapters.proxy.http2.limits import CONNECTION_WINDOW, MAX_STREAMS, STREAM_WINDOW, Violation

if TYPE_CHECKING:
    from tunnel_server.domain.forwarding import Field

_CONFIGURATION = H2Configuration(
    client_side=False,
    header_encoding=None,
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)
_LEAST_SWEPT = 32  # streams
_FIRST_WINDOW = 65535  # octets of a connection's window before it is changed, RFC 9113 §6.9.2


class _Connection(H2Connection):
    MAX_CLOSED_STREAMS = 1000  # h2 remembers how 65,536 of them ended

    _sweep_at = 0

    @property
    def open_inbound_streams(self) -> int:
        """How many streams are open or, until there are twice as many as at the last look, how many are known.

        To count them h2 looks at each of them, and forgets those that have ended; it does so at each new stream, but
        since it is told to allow any number, a look now and then is enough.
        """
        known = len(self.streams)
        if known < self._sweep_at:
            return known
        still_open = super().open_inbound_streams
        self._sweep_at = max(_LEAST_SWEPT, 2 * len(self.streams))
        return still_open


class Engine:
    """One connection's protocol: frames in, events out; what is to be sent is kept until it is taken."""

    __slots__ = ("_decoder", "_h2", "failed")

    def __init__(self, head_size: int, header_count: int) -> None:
        self._h2 = _Connection(_CONFIGURATION)
        self._decoder = FieldDecoder(head_size, header_count)
        settings = {
            SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
            SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            SettingCodes.MAX_HEADER_LIST_SIZE: head_size,
            SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
        }
        self._h2.local_settings = Settings(client=False, initial_values=settings)
        self._h2.initiate_connection()
        # One stream too many is refused by us. h2 would end the connection, of a visitor who may not have our
        # settings yet.
        settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 2**31 - 1
        self._h2.local_settings = Settings(client=False, initial_values=settings)
        self._h2.increment_flow_control_window(CONNECTION_WINDOW - _FIRST_WINDOW)
        self._h2.receive_data(PREFACE)  # the visitor's is read by the frame reader
        self._h2.decoder = cast(Any, self._decoder)
        self._h2.encoder = cast(Any, FieldEncoder())
        self.failed = False  # a GOAWAY is to be sent, and nothing after it

    @property
    def fields(self) -> list[Field]:
        """The fields of the field block received last."""
        return self._decoder.fields

    @property
    def oversized(self) -> bool:
        """Whether that block had more fields than are to be read."""
        return self._decoder.oversized

    @property
    def lost(self) -> bool:
        """Whether no more fields can be read on the connection, since a block was too dear to be read."""
        return self._decoder.lost

    def receive(self, frame: bytes) -> list[Event]:
        """Take one frame.

        Raises:
            Violation: the connection has to end.
        """
        try:
            return self._h2.receive_data(frame)
        except ProtocolError as error:
            self.failed = True  # h2 has its GOAWAY ready
            raise Violation(ErrorCodes(error.error_code), str(error)) from None

    def headers(self, stream_id: int, fields: list[Field], end: bool) -> None:
        """Send a field block."""
        self._h2.send_headers(stream_id, fields, end_stream=end)

    def data(self, stream_id: int, payload: bytes, end: bool) -> None:
        """Send ``payload``, which the windows have to allow."""
        self._h2.send_data(stream_id, payload, end_stream=end)

    def window(self, stream_id: int) -> int:
        """Return how many octets may be sent on a stream; negative is possible (RFC 9113 §6.9.2)."""
        return self._h2.local_flow_control_window(stream_id)

    def credit(self, octets: int, stream_id: int | None = None) -> None:
        """Let the visitor send ``octets`` more, on a stream or in all."""
        self._h2.increment_flow_control_window(octets, stream_id)

    def reset(self, stream_id: int, code: ErrorCodes) -> None:
        """End a stream; one that has ended both ways, or never began, is left alone."""
        stream = self._h2.streams.get(stream_id)
        if stream is not None and not stream.closed:
            self._h2.reset_stream(stream_id, code)

    def fail(self, code: ErrorCodes) -> None:
        """End the connection: only a GOAWAY is left to be sent."""
        if not self.failed:
            self.failed = True
            try:
                self._h2.close_connection(code)
            except H2Error:
                return

    def take(self) -> bytes:
        """Return what is to be sent now."""
        return self._h2.data_to_send()
