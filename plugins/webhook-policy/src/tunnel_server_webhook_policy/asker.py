"""Questions, asked once however many wait for the answer."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from tunnel_server_webhook_policy.answers import Malformed, Told
from tunnel_server_webhook_policy.breaker import Breaker, State, Ticket
from tunnel_server_webhook_policy.cache import Cache
from tunnel_server_webhook_policy.crowd import Crowd
from tunnel_server_webhook_policy.endpoint import AskFailed, Endpoint
from tunnel_server_webhook_policy.metrics import Metrics
from tunnel_server_webhook_policy.questions import MAX_BODY, VERSION, Question, encode

MAX_WAITING = 1000  # questions of one kind, the same ones counted once
SHARE = 50  # of one source: others find room, however many somebody makes up

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class AskerRules:
    """Where questions of one kind go, and for how many seconds, at most, an answer is good."""

    kind: str
    url: str
    longest: float


class Asker:
    """Asks the endpoint questions of one kind; ``read`` makes a decision of an answer's body and the time."""

    def __init__(
        self,
        rules: AskerRules,
        endpoint: Endpoint,
        read: Callable[[bytes, float], Told],
        guards: tuple[Breaker, Cache[Told]],
        metrics: Metrics,
    ) -> None:
        self._rules = rules
        self._endpoint = endpoint
        self._read = read
        self._breaker, self._cache = guards
        self._metrics = metrics
        self._crowd = Crowd(MAX_WAITING, SHARE)
        self._running: dict[bytes, asyncio.Task[Told]] = {}
        self._failing = False

    @property
    def retry_after(self) -> int:
        """Whole seconds after which it may be worth to ask again."""
        return self._breaker.retry_after

    def known(self, question: Question) -> Told | None:
        """Return the decision that is remembered, if one is."""
        told = self._cache.get(question.key)
        if told is not None:
            self._metrics.saved(self._rules.kind, "cached")
        return told

    async def ask(self, question: Question) -> Told:
        """Return the decision.

        Raises:
            AskFailed: there is none.
        """
        known = self.known(question)
        if known is not None:
            return known
        task = self._running.get(question.key)
        if task is None:
            task = self._start(question)
        else:
            self._metrics.saved(self._rules.kind, "shared")
        return await asyncio.shield(task)  # others may wait for the same: one that leaves ends nothing

    async def stop(self) -> None:
        """Give up whatever is under way."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _start(self, question: Question) -> asyncio.Task[Told]:
        ident = str(uuid.uuid4())
        head = {"version": VERSION, "id": ident, "time": int(time.time()), "kind": question.kind}
        body = encode({**head, **question.content})
        if len(body) > MAX_BODY:
            raise self._refused("not_asked", "the question is too long")
        if not self._crowd.enter(question.source):
            raise self._refused("overloaded", "too many questions wait")
        ticket = self._breaker.enter()
        if ticket is None:
            self._crowd.leave(question.source)
            self._metrics.circuit(self._rules.kind, self._breaker.state)
            raise self._refused("circuit_open", "the endpoint failed a short while ago")
        task = self._running[question.key] = asyncio.ensure_future(self._ask(question, ident, body))
        task.add_done_callback(lambda done: self._ended(question, ticket, done))
        return task

    async def _ask(self, question: Question, ident: str, body: bytes) -> Told:
        began = time.monotonic()
        try:
            told = self._understood(await self._endpoint.post(self._rules.url, ident, body))
        except AskFailed as failure:
            self._metrics.asked(question.kind, failure.outcome, time.monotonic() - began)
            raise
        self._metrics.asked(question.kind, "answered", time.monotonic() - began)
        self._cache.put(question.key, told, min(told.seconds, self._rules.longest))
        return told

    def _understood(self, answer: bytes) -> Told:
        try:
            return self._read(answer, time.time())
        except Malformed as error:
            raise AskFailed("malformed", f"its answer: {error}") from None

    def _ended(self, question: Question, ticket: Ticket, task: asyncio.Task[Told]) -> None:
        del self._running[question.key]
        self._crowd.leave(question.source)
        error = None if task.cancelled() else task.exception()
        blameless = task.cancelled() or (isinstance(error, AskFailed) and not error.blame)
        self._note(ticket, None if blameless else error is not None, error)

    def _note(self, ticket: Ticket, failed: bool | None, error: BaseException | None) -> None:
        before = self._breaker.state
        self._breaker.leave(ticket, failed)
        after = self._breaker.state
        self._metrics.circuit(self._rules.kind, after)
        kind = self._rules.kind
        if failed and not self._failing:  # one line for each outage, not for each question
            log.warning("webhook-policy.failed", kind=kind, reason=str(error))
        self._failing = self._failing if failed is None else failed
        if after is State.OPEN and before is not State.OPEN:
            log.error("webhook-policy.circuit-opened", kind=kind, seconds=self._breaker.retry_after)
        if after is State.CLOSED and before is not State.CLOSED:
            log.info("webhook-policy.circuit-closed", kind=kind)

    def _refused(self, outcome: str, text: str) -> AskFailed:
        self._metrics.asked(self._rules.kind, outcome)
        return AskFailed(outcome, text)
