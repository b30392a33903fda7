"""How right the clock is: by the kernel, and by a time server."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import time
from typing import Any

KERNEL_CANNOT_TELL = -1
TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_PACKET = struct.Struct("!BBbb11I")  # RFC 4330 §4
_CLIENT = 0b00_100_011  # version 4, mode 3
_SERVER_MODE = 4
_EPOCH = 2_208_988_800  # seconds from 1900 to 1970
_ERA = 1 << 32


def kept_by_kernel() -> bool | None:
    """Return whether the kernel believes that something keeps its clock; ``None`` where it cannot be asked."""
    try:
        call = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None
    state = call(ctypes.create_string_buffer(512))  # struct timex is 208 octets; all zero changes nothing
    return None if state == KERNEL_CANNOT_TELL else state != TIME_ERROR


async def offset(address: str, port: int, limit: float) -> float:
    """Return how many seconds this machine's clock is behind that of a time server (SNTP, RFC 4330).

    Raises:
        OSError: there is no answer, as TimeoutError, too.
        ValueError: the server does not know the time itself.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(limit):
        transport, asking = await loop.create_datagram_endpoint(_Asking, remote_addr=(address, port))
        try:
            return await asking.answer
        finally:
            transport.close()


class _Asking(asyncio.DatagramProtocol):
    """Asks once, by a number instead of the time that a stranger could guess, and waits for its echo."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._number = struct.unpack("!II", os.urandom(8))

    def connection_made(self, transport: Any) -> None:
        self._sent = time.time()
        transport.sendto(_PACKET.pack(_CLIENT, 0, 0, 0, *[0] * 9, *self._number))

    def datagram_received(self, data: bytes, address: Any) -> None:
        received = time.time()
        if self.answer.done() or len(data) < _PACKET.size:
            return
        mode, stratum, _, _, *words = _PACKET.unpack_from(data)
        if mode & 7 != _SERVER_MODE or tuple(words[5:7]) != self._number:
            return  # no answer to this question
        if mode >> 6 == 3 or not 0 < stratum < 16 or not any(words[9:11]):
            self.answer.set_exception(ValueError("the time server does not know the time, or will not tell"))
            return
        there, back = _seconds(*words[7:9]), _seconds(*words[9:11])
        self.answer.set_result(((there - self._sent) + (back - received)) / 2)

    def error_received(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


def _seconds(whole: int, part: int) -> float:
    """Return a time stamp in seconds of the epoch; without its first bit it is of 2036 and later (RFC 4330 §3)."""
    return whole + (0 if whole >> 31 else _ERA) - _EPOCH + part / _ERA
