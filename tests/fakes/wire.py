"""A socket's transport that keeps what is written to it."""

from __future__ import annotations

import asyncio
from typing import Any


class FakeWire(asyncio.Transport):
    """Remembers what was done with it."""

    def __init__(self, peername: tuple[str, int] = ("192.0.2.1", 1)) -> None:
        super().__init__({"peername": peername})
        self.written: list[bytes] = []
        self.reading_paused = self.eof_written = self.closed = self.aborted = False
        self.protocol: asyncio.BaseProtocol | None = None

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def write_eof(self) -> None:
        self.eof_written = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading_paused = True

    def resume_reading(self) -> None:
        self.reading_paused = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0
