"""The control plane as if it were a service behind a channel: its protocol of HTTP/1.1, in memory, for one stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tunnel_server.adapters.proxy.upstream import Keeper, Upstream
from tunnel_server.domain.ports import Channel

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunnel_server.adapters.proxy.head import ResponseHead


class _NoPool(Keeper):
    """Keeps nothing: a control plane's protocol answers once."""

    changes_answers = False

    def answering(self, head: ResponseHead) -> None:
        pass

    def release(self, upstream: Upstream) -> None:
        upstream.close()

    def lost(self, upstream: Upstream) -> None:
        pass


class ControlChannel(Channel):
    """What the exchange writes is received by the control plane's protocol."""

    def __init__(self, protocol: asyncio.Protocol, inside: _Inside) -> None:
        self._protocol = protocol
        self._inside = inside

    def write(self, data: bytes) -> None:
        if not self._inside.is_closing():
            self._protocol.data_received(data)

    def write_eof(self) -> None:
        """Do nothing: a request tells its own end."""

    def pause_reading(self) -> None:
        self._inside.hold()

    def resume_reading(self) -> None:
        self._inside.unhold()

    def close(self) -> None:
        self._inside.end()

    def abort(self) -> None:
        self._inside.end()


class _Inside(asyncio.Transport):
    """The transport of the control plane's protocol: what it writes is received by the exchange."""

    def __init__(self, upstream: Upstream, outside: asyncio.Transport) -> None:
        super().__init__()
        self._upstream = upstream
        self._outside = outside
        self._protocol: asyncio.Protocol | None = None
        self._kept: list[bytes] = []
        self._held = self._closing = self._ended = False

    def begin(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        protocol.connection_made(self)

    # the protocol calls these

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._closing:
            return
        if self._held:
            self._kept.append(bytes(data))
        else:
            self._upstream.data_received(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        if not self._upstream.writing_paused:
            self._upstream.pause_writing()

    def resume_reading(self) -> None:
        if self._upstream.writing_paused:
            self._upstream.resume_writing()

    def is_reading(self) -> bool:
        return not self._upstream.writing_paused

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: whoever receives says when it is too much."""

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self._kept))

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol  # type: ignore[assignment]

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._kept:
                asyncio.get_running_loop().call_soon(self.end)

    def abort(self) -> None:
        self.end()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default if name == "socket" else self._outside.get_extra_info(name, default)

    # the channel calls these

    def hold(self) -> None:
        """Receive no more for now."""
        if not self._held:
            self._held = True
            if self._protocol is not None and not self._ended:
                self._protocol.pause_writing()

    def unhold(self) -> None:
        """Receive what was kept, and more."""
        self._held = False
        while self._kept and not self._held:
            self._upstream.data_received(self._kept.pop(0))
        if self._held or self._protocol is None or self._ended:
            return
        if self._closing:
            self.end()
        else:
            self._protocol.resume_writing()

    def end(self) -> None:
        """Both sides learn that the other is gone."""
        if self._ended:
            return
        self._ended = self._closing = True
        self._kept.clear()
        if self._protocol is not None:  # which may have tasks that have not started yet, and expect that it lives
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)
        if not self._upstream.closed:
            self._upstream.eof_received()
        if not self._upstream.closed:
            self._upstream.connection_lost()


def control_upstream(control: Callable[[], asyncio.Protocol], outside: asyncio.Transport) -> Upstream:
    """Return an upstream to a new protocol of the control plane; ``outside`` is the visitor's transport."""
    upstream = Upstream(_NoPool())
    inside = _Inside(upstream, outside)
    protocol = control()
    upstream.attach(ControlChannel(protocol, inside))
    inside.begin(protocol)
    return upstream
