"""The transport of a connection: when it is written to, and when it is read."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tunnel_server.adapters.proxy.http2.limits import UNTAKEN, WRITE_BUFFER

if TYPE_CHECKING:
    import asyncio

    from tunnel_server.adapters.proxy.http2.engine import Engine


class Wire:
    """Writes what the engine has ready.

    It reads no more while turns are due for what was read, or while the visitor takes nothing: frames that do not
    wait for their turn, such as answers to PING, would pile up.
    """

    __slots__ = ("_busy", "_engine", "_full", "_held", "transport", "writing_paused")

    def __init__(self, transport: asyncio.Transport, engine: Engine) -> None:
        self.transport = transport
        self.writing_paused = False
        self._engine = engine
        self._busy = self._full = self._held = False
        transport.set_write_buffer_limits(high=WRITE_BUFFER)

    def flush(self) -> None:
        """Write what is ready."""
        data = self._engine.take()
        if data and not self.transport.is_closing():
            self.transport.write(data)
            if self.writing_paused and not self._full and self.transport.get_write_buffer_size() > UNTAKEN:
                self._full = True
                self._hold_or_read()

    def resume_writing(self) -> None:
        """The visitor has taken what was written."""
        self.writing_paused = self._full = False
        self._hold_or_read()

    def busy(self, busy: bool) -> None:
        """Note whether turns are due for what was read."""
        self._busy = busy
        self._hold_or_read()

    def _hold_or_read(self) -> None:
        hold = self._busy or self._full
        if hold is self._held or self.transport.is_closing():
            return
        self._held = hold
        if hold:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def end(self) -> None:
        """Write what is ready, and no more; what still comes in is read, for a reset would overtake the last words."""
        self.flush()
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self._full = False
        self.busy(False)
        with contextlib.suppress(OSError):  # the visitor has just reset; asyncio will tell
            self.transport.write_eof()
