"""The channels of one tunnel: idle ones kept for the next request, new ones bounded, a queue behind."""

from __future__ import annotations

import asyncio
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from tunnel_server.adapters.proxy.upstream import Upstream
from tunnel_server.domain.errors import ChannelRefused

if TYPE_CHECKING:
    from tunnel_server.adapters.proxy.limits import Limits
    from tunnel_server.domain.metrics import Metrics
    from tunnel_server.domain.tunnel import Tunnel

# A service that closes idle connections (Node: after 5 s) may do so just as we send. What may not be
# sent twice therefore goes on a channel that was used a moment ago, or on a new one.
FRESH = 2.0  # seconds


class Waiter(Protocol):
    """A request that waits for a channel."""

    def channel_coming(self) -> None:
        """Learn that a channel is being opened; one of the next two follows."""

    def channel_ready(self, upstream: Upstream) -> None:
        """Use ``upstream``; it is the waiter's now."""

    def channel_failed(self, reason: str) -> None:
        """Learn that there will be none."""


class Pool:
    """Hands out the channels of one tunnel, the one last used first."""

    def __init__(self, tunnel: Tunnel, limits: Limits, metrics: Metrics, tasks: set[asyncio.Task[None]]) -> None:
        self.tunnel = tunnel
        self.client_id = str(tunnel.client.id)
        self._limits = limits
        self._metrics = metrics
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._idle: list[Upstream] = []
        self._queue: deque[tuple[Waiter, float]] = deque()
        self._open = 0
        self._closed = False

    def take(self, replayable: bool) -> Upstream | None:
        """Return an idle channel, if there is one that may be used."""
        if not self._idle:
            return None
        if not replayable and self._loop.time() - self._idle[-1].idle_since > FRESH:
            return None
        return self._idle.pop()

    def request(self, waiter: Waiter) -> bool:
        """Get a new channel for ``waiter``, now or when one is free; false if too many wait already."""
        if self._open >= self._limits.max_channels and self._idle:
            self._idle[0].close()  # the oldest makes room
        if self._open < self._limits.max_channels:
            self._start(waiter)
            return True
        if len(self._queue) >= self._limits.queue_length:
            return False
        self._queue.append((waiter, self._loop.time()))
        return True

    def withdraw(self, waiter: Waiter) -> None:
        """Forget ``waiter`` if it still queues."""
        for entry in self._queue:
            if entry[0] is waiter:
                self._queue.remove(entry)
                return

    def release(self, upstream: Upstream) -> None:
        """Take back a channel whose exchange ended cleanly on both sides."""
        if self._closed:
            upstream.close()
        elif self._queue:
            self._next().channel_ready(upstream)
        else:
            upstream.idle_since = self._loop.time()
            self._idle.append(upstream)

    def lost(self, upstream: Upstream) -> None:
        """A channel is gone; whoever waits may have another."""
        self._open -= 1
        self._metrics.channel_closed()
        if upstream in self._idle:
            self._idle.remove(upstream)
        if self._queue and not self._closed:
            self._start(self._next())

    def reap(self, now: float) -> None:
        """Close the channels that have been idle for too long."""
        oldest_allowed = now - self._limits.pool_idle_timeout
        for upstream in [idle for idle in self._idle if idle.idle_since < oldest_allowed]:
            upstream.close()

    def close(self) -> None:
        """The tunnel is closed: idle channels go, those in use finish, waiters are told."""
        self._closed = True
        for upstream in list(self._idle):
            upstream.close()
        while self._queue:
            self._queue.popleft()[0].channel_failed("the tunnel was closed")

    def _next(self) -> Waiter:
        waiter, since = self._queue.popleft()
        self._metrics.queue_waited(self._loop.time() - since)
        return waiter

    def _start(self, waiter: Waiter) -> None:
        self._open += 1
        waiter.channel_coming()
        task = self._loop.create_task(self._connect(waiter))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, waiter: Waiter) -> None:
        started = perf_counter()
        upstream = Upstream(self)
        try:
            channel = await self.tunnel.transport.open_channel(self.tunnel.request.text, upstream)
        except ChannelRefused as error:
            self._open -= 1
            waiter.channel_failed(str(error))
            if self._queue and not self._closed:
                self._start(self._next())
            return
        self._metrics.channel_opened(perf_counter() - started)
        upstream.attach(channel)
        if upstream.closed:
            waiter.channel_failed("it closed the connection at once")
        else:
            waiter.channel_ready(upstream)
