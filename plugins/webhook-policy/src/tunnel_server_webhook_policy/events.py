"""Events, kept until the endpoint took them, within bounds."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from dataclasses import dataclass
from itertools import islice
from random import random
from typing import Any

import structlog

from tunnel_server_webhook_policy.endpoint import AskFailed, Endpoint
from tunnel_server_webhook_policy.metrics import Metrics
from tunnel_server_webhook_policy.questions import VERSION, encode

GATHER = 0.2  # seconds in which events that come together become one post
FIRST_WAIT = 0.5  # seconds until a post is tried again; each time twice as long, with jitter
LONGEST_WAIT = 30.0
LAST_POSTS = 3.0  # seconds for what waits at the stop
MAX_QUEUE = 64 << 20  # octets that wait
MAX_POST = 1 << 20  # octets of one post; a single event is smaller
_HOPELESS = frozenset({400, 413, 415, 422})  # answers to what was posted, not to who posted it

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EventRules:
    """Where events go, how many wait, how many go at once, and for how many seconds a post is tried."""

    url: str
    queue: int = 10_000
    batch: int = 100
    retry_for: float = 300.0


class Events:
    """A bounded queue and its sender. Each event arrives at least once, or is counted as dropped."""

    def __init__(self, rules: EventRules, endpoint: Endpoint, metrics: Metrics) -> None:
        self._rules = rules
        self._endpoint = endpoint
        self._metrics = metrics
        self._queue: deque[bytes] = deque()
        self._size = 0  # octets
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, kind: str, content: dict[str, Any]) -> None:
        """Queue an event; into a full queue nothing more goes. Never blocks."""
        event = encode({"id": str(uuid.uuid4()), "time": time.time(), "event": kind, **content})
        if len(self._queue) >= self._rules.queue or self._size + len(event) > MAX_QUEUE:
            self._metrics.events_dropped("queue_full")
            return
        self._size += len(event)
        self._queue.append(event)
        self._metrics.events_waiting(len(self._queue))
        self._some.set()

    async def run(self) -> None:
        """Post what is queued. Never returns."""
        while True:
            await self._some.wait()
            await asyncio.sleep(GATHER)
            await self._send_first()

    async def finish(self) -> None:
        """Post what still waits, for at most three seconds; what is left then is dropped."""
        try:
            async with asyncio.timeout(LAST_POSTS):
                while self._queue:
                    await self._post(self._first())
        except (TimeoutError, AskFailed):
            self._metrics.events_dropped("stopped", len(self._queue))
            log.warning("webhook-policy.events-dropped", events=len(self._queue), reason="stopped")
            self._forget(len(self._queue))

    def _first(self) -> list[bytes]:
        chosen: list[bytes] = []
        size = 0
        for event in islice(self._queue, self._rules.batch):
            size += len(event) + 1
            if chosen and size > MAX_POST:
                break
            chosen.append(event)
        return chosen

    async def _send_first(self) -> None:
        """Post the first events until they are taken, or given up."""
        events, ident, began, wait = self._first(), str(uuid.uuid4()), time.monotonic(), FIRST_WAIT
        while True:
            try:
                await self._post(events, ident)
                return
            except AskFailed as failure:
                reason = self._hopeless(failure, began)
                if reason:
                    self._drop(len(events), reason, failure)
                    return
            await asyncio.sleep(wait * (0.75 + random() / 2))
            wait = min(2 * wait, LONGEST_WAIT)

    async def _post(self, events: list[bytes], ident: str = "") -> None:
        ident = ident or str(uuid.uuid4())
        head = encode({"version": VERSION, "id": ident, "time": int(time.time()), "kind": "events"})
        body = head[:-1] + b',"events":[' + b",".join(events) + b"]}"
        began = time.monotonic()
        try:
            await self._endpoint.post(self._rules.url, ident, body)
        except AskFailed as failure:
            self._metrics.asked("events", failure.outcome, time.monotonic() - began)
            raise
        self._metrics.asked("events", "answered", time.monotonic() - began)
        self._metrics.events_sent(len(events))
        self._forget(len(events))

    def _hopeless(self, failure: AskFailed, began: float) -> str:
        if failure.status in _HOPELESS:
            return "rejected"
        return "too_old" if time.monotonic() - began >= self._rules.retry_for else ""

    def _drop(self, number: int, reason: str, failure: AskFailed) -> None:
        self._metrics.events_dropped(reason, number)
        log.warning("webhook-policy.events-dropped", events=number, reason=reason, failure=str(failure))
        self._forget(number)

    def _forget(self, number: int) -> None:
        """Let go of the first events; while they were under way, others could only be added behind them."""
        for _ in range(number):
            self._size -= len(self._queue.popleft())
        self._metrics.events_waiting(len(self._queue))
        if not self._queue:
            self._some.clear()
