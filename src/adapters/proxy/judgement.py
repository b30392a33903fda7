"""One request before the rules of its tunnel: asked, waited for if need be, and told to whoever brought it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Protocol

import structlog

from tunnel_server.adapters.proxy import answers
from tunnel_server.domain.access import Allow
from tunnel_server.domain.rules import Decision, Endings, Pending, Rules
from tunnel_server.domain.visit import Request

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable

    from tunnel_server.adapters.proxy.head import RequestHead
    from tunnel_server.adapters.proxy.introduction import Introduction
    from tunnel_server.domain.access import Verdict
    from tunnel_server.domain.visit import FinishedRequest


log = structlog.get_logger()


class Asker(Protocol):
    """Who brought the request; both end what it waits for."""

    def allowed(self) -> None:
        """Send it to the service."""

    def refuse(self, problem: answers.Problem) -> None:
        """Answer ``problem`` instead."""


class Judgement:
    """Asks once; afterwards it knows who wants to hear of the request's end."""

    __slots__ = ("_asker", "_finished", "_head", "_pending", "_rules", "_task", "_view")

    def __init__(self, rules: Rules, head: RequestHead, path: bytes, introduction: Introduction, asker: Asker) -> None:
        self._rules = rules
        self._head = head
        self._view = view(head, path, introduction)
        self._asker = asker
        self._task: asyncio.Task[None] | None = None
        self._pending = False
        self._finished: Endings | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Ask; false if the asker has been told by now, true if it will be."""
        if self._rules.decide is None:
            self._pass(frozenset())
            return False
        decision = self._rules.decide(self._view)
        self._finished = decision.finished
        if isinstance(decision, Decision):
            self._decided(decision.answer)
            return False
        self._pending = True
        self._task = loop.create_task(self._wait(decision.decision))
        self._task.add_done_callback(lambda _: _drop(decision))
        return True

    @property
    def wants_end(self) -> bool:
        """Whether somebody wants to hear of the request's end, or may still."""
        return self._finished is not None and (self._pending or len(self._finished) > 0)

    def tell(self, ended: FinishedRequest) -> None:
        """The request ended: tell those who want to hear of it."""
        if self._finished is not None:
            self._finished.tell(ended)

    def cancel(self) -> None:
        """Nobody waits any more. Safe to repeat."""
        if self._task is not None:
            self._task.cancel()

    async def _wait(self, decision: Awaitable[Verdict]) -> None:
        answer = await decision
        self._task = None  # from here on there is nothing to cancel
        try:
            self._decided(answer)
        except Exception:
            log.exception("request.failed")
            self._asker.refuse(answers.plugin_failed())

    def _decided(self, answer: Verdict) -> None:
        if isinstance(answer, Allow):
            self._head.bare = answer.bare
            self._pass(answer.hidden)
        else:
            self._asker.refuse(answers.by_policy(answer))

    def _pass(self, hidden: frozenset[str]) -> None:
        head = self._head
        if hidden:
            names = {name.lower().encode("latin-1") for name in hidden}
            head.lines = [line for line in head.lines if line.partition(b":")[0].lower() not in names]
        if self._rules.on_request is not None and not self._rules.on_request(self._view, head.lines):
            self._asker.refuse(answers.plugin_failed())
        else:
            self._asker.allowed()


def _drop(pending: Pending) -> None:
    """End what has not begun; of what has, the task's end was the end."""
    pending.drop()
    if inspect.getcoroutinestate(pending.decision) == inspect.CORO_CREATED:
        pending.decision.close()


def view(head: RequestHead, path: bytes, introduction: Introduction) -> Request:
    """Return a request as policies see it; ``path`` is what the service is asked for."""
    return Request(
        head.method.decode("ascii"),
        path.decode("latin-1"),
        head.host.decode("ascii"),
        introduction.scheme(head).decode("latin-1"),
        introduction.visitor_of(head),
        list(head.lines),
        head.length == 0 and not head.upgrade,
    )
