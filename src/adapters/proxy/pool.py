"""The channels of one tunnel: idle ones kept for the next request, new ones bounded, a queue behind."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from tunnel_server.adapters.proxy.upstream import AnswerWithheld, Upstream
from tunnel_server.domain.errors import ChannelRefused
from tunnel_server.domain.forwarding import apps_cookies
from tunnel_server.domain.share import Share

if TYPE_CHECKING:
    from tunnel_server.adapters.proxy.head import ResponseHead
    from tunnel_server.adapters.proxy.limits import Limits
    from tunnel_server.domain.metrics import Metrics
    from tunnel_server.domain.rules import Rules
    from tunnel_server.domain.tunnel import Tunnel

# A service that closes idle connections (Node: after 5 s) may do so just as we send. What may not be
# sent twice therefore goes on a channel that was used a moment ago, or on a new one.
FRESH = 2.0  # seconds


class Waiter(Protocol):
    """A request that waits for a channel; ``visitor`` is who asks, as :mod:`tunnel_server.domain.share` has it."""

    visitor: str

    def channel_coming(self) -> None:
        """Learn that a channel is being opened; one of the next two follows."""

    def channel_ready(self, upstream: Upstream) -> None:
        """Use ``upstream``; it is the waiter's now."""

    def channel_failed(self, reason: str) -> None:
        """Learn that there will be none."""


@dataclass(frozen=True, slots=True)
class House:
    """What all pools have in common; ``base`` is the base host."""

    limits: Limits
    base: bytes
    metrics: Metrics
    tasks: set[asyncio.Task[None]]


class Pool:
    """Hands out the channels of one tunnel, the one last used first, and to each visitor its share of them.

    A visitor holds no more channels of the tunnel than are left, nor of its client's (``client_share``). Those
    who wait are served in turn by visitor, so that one who asks for much waits behind itself only.
    """

    def __init__(self, tunnel: Tunnel, rules: Rules | None, house: House, client_share: Share) -> None:
        self.tunnel = tunnel
        self.rules = rules
        self.changes_answers = rules is not None and rules.on_response is not None
        self.client_id = str(tunnel.client.id)
        limits = house.limits
        self._base = house.base
        self._limits = limits
        self._metrics = house.metrics
        self._tasks = house.tasks
        self._loop = asyncio.get_running_loop()
        self._idle: list[Upstream] = []
        self._share = Share(limits.max_channels)
        self._client_share = client_share
        self._queues: dict[str, deque[tuple[Waiter, float]]] = {}  # by visitor, whose turn it is first
        self._queue_share = Share(limits.queue_length)
        self._open = 0
        self._closed = False

    def answering(self, head: ResponseHead) -> None:
        """Change the head of an answer as the house and the tunnel's rules want it.

        Raises:
            AnswerWithheld: a rule failed, and what it would have hidden is not shown.
        """
        if head.sets_cookies:
            head.lines = apps_cookies(head.lines, self._base)
        change = self.rules.on_response if self.rules is not None else None
        final = head.status >= 200 or head.status == 101
        if change is not None and final and not change(head.status, head.lines):
            raise AnswerWithheld("a plugin of this server failed")

    @property
    def closed(self) -> bool:
        """Whether its tunnel is."""
        return self._closed

    @property
    def waiting(self) -> int:
        """How many requests wait for a channel."""
        return sum(map(len, self._queues.values()))

    def take(self, visitor: str, replayable: bool) -> Upstream | None:
        """Return an idle channel, if there is one that ``visitor`` may use."""
        if not self._idle or not self._allows(visitor):
            return None
        if not replayable and self._loop.time() - self._idle[-1].idle_since > FRESH:
            return None
        return self._lend(self._idle.pop(), visitor)

    def request(self, waiter: Waiter) -> bool:
        """Get a new channel for ``waiter``, now or when one is free; false if too many wait already."""
        visitor = waiter.visitor
        if self._allows(visitor):
            if self._open >= self._limits.max_channels and self._idle:
                self._idle[0].close()  # the oldest makes room
            if self._open < self._limits.max_channels:
                self._start(waiter)
                return True
        if not self._queue_share.allows(visitor):
            return False
        self._queue_share.take(visitor)
        self._queues.setdefault(visitor, deque()).append((waiter, self._loop.time()))
        return True

    def withdraw(self, waiter: Waiter) -> None:
        """Forget ``waiter`` if it still queues."""
        queue = self._queues.get(waiter.visitor, ())
        for entry in queue:
            if entry[0] is waiter:
                self._unqueue(waiter.visitor, entry)
                return

    def release(self, upstream: Upstream) -> None:
        """Take back a channel whose exchange ended cleanly on both sides."""
        self._returned(upstream)
        if self._closed:
            upstream.close()
            return
        upstream.idle_since = self._loop.time()
        self._idle.append(upstream)
        if self._queues:
            self._serve_queue()

    def lost(self, upstream: Upstream) -> None:
        """A channel is gone; whoever waits may have another."""
        self._open -= 1
        self._metrics.channel_closed()
        self._returned(upstream)
        if upstream in self._idle:
            self._idle.remove(upstream)
        if self._queues:
            self._serve_queue()

    def reap(self, now: float) -> None:
        """Close the channels that have been idle for too long; serve whom another tunnel's end made room for."""
        oldest_allowed = now - self._limits.pool_idle_timeout
        for upstream in [idle for idle in self._idle if idle.idle_since < oldest_allowed]:
            upstream.close()
        if self._queues:
            self._serve_queue()

    def close(self) -> None:
        """The tunnel is closed: idle channels go, those in use finish, waiters are told."""
        self._closed = True
        for upstream in list(self._idle):
            upstream.close()
        while self._queues:
            visitor, queue = next(iter(self._queues.items()))
            waiter = queue[0][0]
            self._unqueue(visitor, queue[0])
            waiter.channel_failed("the tunnel was closed")

    def _allows(self, visitor: str) -> bool:
        return self._share.allows(visitor) and self._client_share.allows(visitor)

    def _lend(self, upstream: Upstream, visitor: str) -> Upstream:
        self._share.take(visitor)
        self._client_share.take(visitor)
        upstream.lent_to = visitor
        return upstream

    def _returned(self, upstream: Upstream) -> None:
        visitor = upstream.lent_to
        if visitor is not None:
            upstream.lent_to = None
            self._share.give_back(visitor)
            self._client_share.give_back(visitor)

    def _serve_queue(self) -> None:
        """Give what is free to those who wait, a visitor after the other."""
        while not self._closed and (self._idle or self._open < self._limits.max_channels):
            visitor = next((visitor for visitor in self._queues if self._allows(visitor)), None)
            if visitor is None:
                return
            waiter, since = entry = self._queues[visitor][0]
            self._unqueue(visitor, entry)
            if visitor in self._queues:  # and has more that wait: behind all others
                self._queues[visitor] = self._queues.pop(visitor)
            self._metrics.queue_waited(self._loop.time() - since)
            if self._idle:
                waiter.channel_ready(self._lend(self._idle.pop(), visitor))
            else:
                self._start(waiter)

    def _unqueue(self, visitor: str, entry: tuple[Waiter, float]) -> None:
        queue = self._queues[visitor]
        queue.remove(entry)
        self._queue_share.give_back(visitor)
        if not queue:
            del self._queues[visitor]

    def _start(self, waiter: Waiter) -> None:
        self._open += 1
        upstream = self._lend(Upstream(self), waiter.visitor)
        waiter.channel_coming()
        task = self._loop.create_task(self._connect(waiter, upstream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, waiter: Waiter, upstream: Upstream) -> None:
        started = perf_counter()
        try:
            channel = await self.tunnel.transport.open_channel(self.tunnel.request.text, upstream)
        except BaseException as error:
            self._open -= 1
            self._returned(upstream)
            if not isinstance(error, ChannelRefused):
                raise
            waiter.channel_failed(str(error))
            self._serve_queue()
            return
        self._metrics.channel_opened(perf_counter() - started)
        upstream.attach(channel)
        if upstream.closed:
            waiter.channel_failed("it closed the connection at once")
        else:
            waiter.channel_ready(upstream)
