"""The one thread that waits for the ACME server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Worker:
    """Runs one piece of work after the other, on a thread that starts with the first.

    The thread is a daemon, and none of an executor's: an interpreter that ends does not wait for it, nor for the
    server that it waits for.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def run(self, work: Callable[_P, _T], *args: _P.args, **named: _P.kwargs) -> _T:
        """Return what ``work`` returns. Cancelling stops the wait, and the work only if it has not begun."""
        return await asyncio.wrap_future(self.begin(work, *args, **named))

    def begin(self, work: Callable[_P, _T], *args: _P.args, **named: _P.kwargs) -> Future[_T]:
        """Have ``work`` done in its turn, without waiting for it."""
        future: Future[_T] = Future()
        self._jobs.put((future, partial(work, *args, **named)))
        if self._thread is None:
            self._thread = threading.Thread(target=_run, args=(self._jobs,), name="acme", daemon=True)
            self._thread.start()
        return future

    def stop(self) -> None:
        """End the thread after what it has been given; nothing is given afterwards."""
        if self._thread is not None:
            self._jobs.put(None)


def _run(jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]) -> None:
    while (job := jobs.get()) is not None:
        future, work = job
        if not future.set_running_or_notify_cancel():
            continue
        try:
            result = work()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
        del job, future, work


class Lifeline:
    """The sockets of a conversation. Cutting it ends, from any thread, whatever waits for one of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._cut = False

    def add(self, sock: socket.socket) -> None:
        """Watch over ``sock``; by a copy, which stays the same when the socket is wrapped in TLS.

        Raises:
            ConnectionAbortedError: it was cut already.
        """
        with self._lock:
            if self._cut:
                raise ConnectionAbortedError("the order was given up")
            self._sockets.append(sock.dup())

    def cut(self) -> None:
        """Shut all sockets, now and in future. Safe to repeat."""
        with self._lock:
            self._cut = True
            for sock in self._sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()
            self._sockets.clear()
