"""Cutting what a visitor sends into frames (RFC 9113 §4), and refusing early what h2 would take.

h2 keeps a header block until it ends, whatever its size, counts no frames, and ends the connection where a stream's
end would do. So each frame is looked at here before h2 sees it; one that says nothing to us it never sees.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from h2.errors import ErrorCodes

from tunnel_server.adapters.proxy.http2.limits import (
    CONTINUATIONS,
    FRAME,
    IDLE_FRAMES,
    SETTINGS,
    Budget,
    StreamViolation,
    Violation,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

END_STREAM = ACK = 0x1
END_HEADERS = 0x4

_HEADER = struct.Struct(">HBBBL")
_SETTING = struct.Struct(">HL")
_KNOWN_SETTINGS = frozenset({1, 2, 3, 4, 5, 6, 8})  # RFC 9113 §6.5.2, RFC 8441 §3
_MAX_SETTINGS = 64  # in one frame
_EVERY_STREAM_BIT = 0x7FFFFFFF


class Kind(IntEnum):
    """Types of frames, RFC 9113 §6."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


# By name of their own, and plain numbers: comparing those is quicker.
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS_, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = map(int, Kind)

_OF_STREAMS = frozenset({DATA, HEADERS, PRIORITY, RST_STREAM, CONTINUATION})
_OF_CONNECTION = frozenset({SETTINGS_, PING, GOAWAY})
_SIZES = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}


class Frame(NamedTuple):
    """One frame; ``whole`` is all of it, as h2 takes it."""

    kind: int
    flags: int
    stream_id: int
    whole: bytes


def goaway(last_stream_id: int, code: int = 0) -> bytes:
    """Return a GOAWAY frame. h2 takes its own for the end of all streams, so it cannot say that no new ones come."""
    return _HEADER.pack(0, 8, GOAWAY, 0, 0) + struct.pack(">LL", last_stream_id, code)


class FrameReader:
    """Finds frames in what is received. ``within_block`` is whether a field block has begun and not ended.

    ``block_limit`` is the octets a field block may have, compressed.
    """

    def __init__(self, block_limit: int) -> None:
        self._data = b""
        self._at = 0
        self._preface_left = PREFACE
        self._block_limit = block_limit
        self._block_stream = self._block_size = self._block_frames = 0
        self._greeted = False
        self._idle_frames = Budget("frames that move nothing", IDLE_FRAMES)
        self._settings = Budget("SETTINGS frames", SETTINGS)
        self.highest = 0  # stream id seen

    @property
    def within_block(self) -> bool:
        return self._block_stream != 0

    @property
    def greeted(self) -> bool:
        """Whether the connection preface came, SETTINGS included."""
        return self._greeted

    def add(self, data: bytes) -> None:
        """Take more of what was received."""
        self._data = self._data[self._at :] + data
        self._at = 0

    def earn(self, frames: float) -> None:
        """Allow some frames more that move nothing, since something moved."""
        self._idle_frames.earn(frames)

    def spend(self, now: float) -> None:
        """Count a frame that moved nothing, though one of its kind might.

        Raises:
            Violation: there were too many.
        """
        self._idle_frames.spend(now)

    def next(self, now: float) -> Frame | None:
        """Return the next frame that concerns us, ``None`` if more has to be received first.

        Raises:
            Violation: the connection has to end.
            StreamViolation: the stream has to; reading goes on.
        """
        if self._preface_left:
            self._read_preface()
        while not self._preface_left:
            frame = self._cut()
            if frame is None:
                return None
            frame = self._checked(frame, now)
            if frame is not None:
                return frame
        return None

    def _read_preface(self) -> None:
        left = self._preface_left
        came = self._data[: len(left)]
        if not left.startswith(came):
            raise Violation(ErrorCodes.PROTOCOL_ERROR, "this is not HTTP/2")
        self._preface_left = left[len(came) :]
        self._at = len(came)
        if self._preface_left:
            self._data, self._at = b"", 0

    def _cut(self) -> Frame | None:
        data, at = self._data, self._at
        here = len(data) - at
        if here < 9:
            return None
        high, low, kind, flags, stream_id = _HEADER.unpack_from(data, at)
        size = high << 8 | low
        if size > FRAME:
            raise Violation(ErrorCodes.FRAME_SIZE_ERROR, "a frame is too long")
        if here < 9 + size:
            return None
        self._at = end = at + 9 + size
        return Frame(kind, flags, stream_id & _EVERY_STREAM_BIT, data[at:end])

    def _checked(self, frame: Frame, now: float) -> Frame | None:
        """Return the frame to go on with; ``None`` if it says nothing to us."""
        kind, flags, stream_id, whole = frame
        if self._block_stream or kind == CONTINUATION:
            self._check_block(frame)
        elif not self._greeted:
            if kind != SETTINGS_ or flags & ACK:
                raise Violation(ErrorCodes.PROTOCOL_ERROR, "SETTINGS do not come first")
            self._greeted = True
        if kind == DATA:
            self._check_id(stream_id, may_be_new=False)
        elif kind == HEADERS:
            self._check_id(stream_id, may_be_new=True)
            self.highest = max(self.highest, stream_id)
            if not flags & END_HEADERS:
                self._block_stream, self._block_size, self._block_frames = stream_id, len(whole) - 9, 0
        elif kind != CONTINUATION:
            self._idle_frames.spend(now)
            return self._check_rest(frame, now)
        return frame

    def _check_block(self, frame: Frame) -> None:
        """Check that a field block goes on, and does not go on for ever (RFC 9113 §6.10)."""
        kind, flags, stream_id, whole = frame
        if kind != CONTINUATION or stream_id != self._block_stream or not self._block_stream:
            raise Violation(ErrorCodes.PROTOCOL_ERROR, "a field block is interrupted, or continued without a beginning")
        self._block_size += len(whole) - 9
        self._block_frames += 1
        if self._block_size > self._block_limit or self._block_frames > CONTINUATIONS:
            raise Violation(ErrorCodes.ENHANCE_YOUR_CALM, "a field block is too long")
        if flags & END_HEADERS:
            self._block_stream = 0

    def _check_id(self, stream_id: int, *, may_be_new: bool) -> None:
        if not stream_id & 1:  # 0 is the connection, and even ones would be ours (RFC 9113 §5.1.1)
            raise Violation(ErrorCodes.PROTOCOL_ERROR, "a frame on a stream that cannot be")
        if not may_be_new and stream_id > self.highest:
            raise Violation(ErrorCodes.PROTOCOL_ERROR, "a frame on a stream that is idle")

    def _check_rest(self, frame: Frame, now: float) -> Frame | None:
        kind, _, stream_id, whole = frame
        size = len(whole) - 9
        if kind > CONTINUATION:
            return None  # RFC 9113 §5.5: unknown ones are ignored
        if (stream_id and kind in _OF_CONNECTION) or (not stream_id and kind in _OF_STREAMS) or kind == PUSH_PROMISE:
            raise Violation(ErrorCodes.PROTOCOL_ERROR, "a frame where it does not belong")
        if size != _SIZES.get(kind, size) or (kind == GOAWAY and size < 8):
            if kind == PRIORITY:
                raise StreamViolation(ErrorCodes.FRAME_SIZE_ERROR, "a PRIORITY frame of a wrong size", stream_id)
            raise Violation(ErrorCodes.FRAME_SIZE_ERROR, "a frame of a wrong size")
        if kind == PRIORITY:
            return None  # RFC 9113 §5.3.2: deprecated
        if kind == SETTINGS_:
            self._settings.spend(now)
            return _known_settings(frame)
        if stream_id:
            self._check_id(stream_id, may_be_new=False)
        if kind == WINDOW_UPDATE and not int.from_bytes(whole[9:]) & _EVERY_STREAM_BIT:
            if stream_id:
                raise StreamViolation(ErrorCodes.PROTOCOL_ERROR, "a WINDOW_UPDATE of nothing", stream_id)
            raise Violation(ErrorCodes.PROTOCOL_ERROR, "a WINDOW_UPDATE of nothing")
        return frame


def _known_settings(frame: Frame) -> Frame:
    """Return a SETTINGS frame with the settings that are known: h2 would keep all others for good."""
    payload = frame.whole[9:]
    if len(payload) % 6 or (frame.flags & ACK and payload):
        raise Violation(ErrorCodes.FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
    if len(payload) > 6 * _MAX_SETTINGS:
        raise Violation(ErrorCodes.ENHANCE_YOUR_CALM, "too many settings")
    known = b"".join(
        _SETTING.pack(code, value) for code, value in _SETTING.iter_unpack(payload) if code in _KNOWN_SETTINGS
    )
    if len(known) == len(payload):
        return frame
    return frame._replace(whole=_HEADER.pack(len(known) >> 8, len(known) & 0xFF, SETTINGS_, frame.flags, 0) + known)
