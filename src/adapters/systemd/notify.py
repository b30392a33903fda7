"""What the service tells systemd: sd_notify(3) and sd_watchdog_enabled(3), without their library."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import MutableMapping
from typing import Self

import structlog

SEND_WITHIN = 1.0  # seconds, in which nothing else happens; systemd reads at once unless something is wrong with it
MIN_PAUSE = 0.05  # seconds between signs of life, whatever the unit wants
_MICROSECONDS = re.compile(r"[0-9]{1,20}")

log = structlog.get_logger()


class Notifier:
    """Sends messages while entered; without systemd it does nothing.

    What it needs is taken out of ``environ``, so that no child speaks in our name. Nothing here raises: a message
    that cannot be sent is logged.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        self._pause = _half(environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", ""))
        self._socket: socket.socket | None = None
        self._beat: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        # One for all messages: at a later time there may be no descriptor left.
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        return self

    def __exit__(self, *error: object) -> None:
        self._still()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ready(self, status: str) -> None:
        """The service is up; ``status``, a line, is for people. From now on the event loop gives signs of life.

        They are sent twice in the time after which systemd restarts the service for their absence, so that a loop
        that is stuck ends, whatever other threads do.
        """
        self._send(f"READY=1\nSTATUS={status}", SEND_WITHIN)
        if self._pause:
            self._live()

    def stopping(self, within: float, status: str) -> None:
        """The service ends, and may take ``within`` seconds, however little its unit allows."""
        self._still()  # systemd watches no more
        self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={int(within * 1e6)}\nSTATUS={status}", SEND_WITHIN)

    def _live(self) -> None:
        self._send("WATCHDOG=1", 0)  # one that is not taken at once is not waited for: there will be another
        self._beat = asyncio.get_running_loop().call_later(self._pause, self._live)

    def _still(self) -> None:
        if self._beat is not None:
            self._beat.cancel()

    def _send(self, message: str, within: float) -> None:
        if self._socket is None:
            return
        name = self._address
        try:
            # "@" stands for the zero octet that an abstract name begins with (unix(7)).
            # Connected, so that waiting for room is waiting for that of the peer.
            self._socket.connect(f"\0{name[1:]}" if name.startswith("@") else name)
            self._socket.settimeout(within)
            self._socket.send(message.encode())
        except OSError as error:
            log.warning("systemd.not-told", socket=name, message=message, reason=str(error))


def _half(microseconds: str, pid: str) -> float:
    """Return half the watchdog's time, in seconds; 0 if there is none, or it is for another process."""
    if pid not in ("", str(os.getpid())) or not _MICROSECONDS.fullmatch(microseconds):
        return 0.0
    return max(int(microseconds) / 2e6, MIN_PAUSE) if int(microseconds) else 0.0
