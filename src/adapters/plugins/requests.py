"""What is done with visitors' requests, as the plugins say."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from tunnel_server.adapters.plugins.calls import UNDECIDED, Calls, HookFailed, Implementation
from tunnel_server.domain.access import ALLOW, Abstain, Allow, Answer, Challenge, Login, Refuse, Verdict, decide
from tunnel_server.domain.rules import Decision, Endings, Pending, RequestRules, Rules
from tunnel_server.domain.tunnel import Access
from tunnel_server.domain.visit import FinishedRequest, Headers, Request, is_field, may_change

if TYPE_CHECKING:
    from tunnel_server.adapters.plugins.events import Events
    from tunnel_server.adapters.plugins.hooks import Hooks
    from tunnel_server.domain.tunnel import Tunnel

MAX_HEADERS = 50
MAX_REASON = 4096  # characters

_Finished = Callable[[FinishedRequest], None]
_Policy = tuple[str, str, "Callable[[Request], Any]"]  # plugin, hook, function


class PluginRequestRules(RequestRules):
    """Asks all policies of a tunnel: those for every tunnel, and those that plugins made for it."""

    def __init__(self, calls: Calls, hooks: Hooks, events: Events) -> None:
        self._calls = calls
        self._hooks = hooks
        self._events = events

    def listener(self) -> Callable[[FinishedRequest], None] | None:
        return self._events.request_finished if self._hooks.of("request_finished") else None

    def of(self, tunnel: Tunnel) -> Rules | None:
        policies = self._policies(tunnel)
        private = tunnel.request.access is Access.PRIVATE
        before = self._hooks.of("transform_request_headers")
        after = self._hooks.of("transform_response_headers")
        if not (policies or private or before or after):
            return None
        return Rules(
            decide=self._decider(policies, private) if policies or private else None,
            on_request=self._request_changer(tunnel, before) if before else None,
            on_response=self._response_changer(tunnel, after) if after else None,
        )

    def _policies(self, tunnel: Tunnel) -> list[_Policy]:
        found: list[_Policy] = []
        for hook in self._hooks.of("guard_tunnel"):
            try:
                policy = self._calls.call(hook, tunnel=tunnel)
                if policy is not None and not callable(policy):
                    raise self._calls.nonsense(hook.plugin, hook.hook, policy)
            except HookFailed:
                policy = _refuse_all
            if policy is not None:
                found.append((hook.plugin, hook.hook, policy))
        for hook in self._hooks.of("authorize_request"):
            found.append((hook.plugin, hook.hook, _with_tunnel(hook, tunnel)))
        return found

    def _decider(self, policies: list[_Policy], private: bool) -> Callable[[Request], Decision | Pending]:
        call = self._calls.call_policy

        def decide_at_once(request: Request) -> Decision | Pending:
            answers: list[Any] = []
            finished = Endings()
            waits = False
            for plugin, hook, policy in policies:
                answer = call(plugin, hook, policy, request)
                if answer is not None and not isinstance(answer, _ANSWERS) and inspect.isawaitable(answer):
                    waits = True
                else:
                    answer = self._sound(plugin, hook, answer, finished)
                    if isinstance(answer, Refuse):  # whatever the others say
                        _close(answers)
                        return Decision(answer, finished)
                answers.append(answer)
            if waits:
                return Pending(
                    self._when_all_answered(policies, answers, finished, private), finished, lambda: _close(answers)
                )
            if not len(finished) and len(answers) == 1 and answers[0] is ALLOW:
                return _ALLOWED  # as nearly always
            return Decision(decide(answers, private=private), finished)

        return decide_at_once

    async def _when_all_answered(
        self, policies: list[_Policy], answers: list[Any], finished: Endings, private: bool
    ) -> Verdict:
        """Wait for those that take time, all at once."""
        waiting = [
            asyncio.ensure_future(self._settled(plugin, hook, answer, finished))
            for (plugin, hook, _), answer in zip(policies, answers, strict=True)
        ]
        try:
            return decide(await asyncio.gather(*waiting), private=private)
        except asyncio.CancelledError:
            for task in waiting:
                task.cancel()
            raise

    async def _settled(self, plugin: str, hook: str, answer: Any, finished: Endings) -> Any:
        if not inspect.isawaitable(answer):
            return answer
        note = partial(self._sound, plugin, hook, finished=finished)
        try:
            return await self._calls.settle(plugin, hook, answer, note=note)
        except HookFailed:
            return UNDECIDED

    def _sound(self, plugin: str, hook: str, answer: object, finished: Endings) -> Answer | None:
        """Return ``answer``, or a refusal in place of nonsense; note who wants to hear of the end."""
        if answer is None:
            return None
        if type(answer) is Allow and not answer.hidden and answer.finished is None and not answer.bare:
            return ALLOW
        if not isinstance(answer, _ANSWERS) or not _is_sound(answer):
            self._calls.nonsense(plugin, hook, answer)
            return UNDECIDED
        if isinstance(answer, Allow | Abstain) and answer.finished is not None:
            finished.append(self._guarded(plugin, hook, answer.finished))
        return answer

    def _guarded(self, plugin: str, hook: str, function: _Finished) -> _Finished:
        def tell(request: FinishedRequest) -> None:
            self._calls.call_policy(plugin, hook, function, request)

        return tell

    def _request_changer(
        self, tunnel: Tunnel, hooks: tuple[Implementation, ...]
    ) -> Callable[[Request, list[bytes]], bool]:
        def change(request: Request, lines: list[bytes]) -> bool:
            headers = Headers(lines)
            return self._each(hooks, tunnel=tunnel, request=request, headers=headers)

        return change

    def _response_changer(
        self, tunnel: Tunnel, hooks: tuple[Implementation, ...]
    ) -> Callable[[int, list[bytes]], bool]:
        def change(status: int, lines: list[bytes]) -> bool:
            return self._each(hooks, tunnel=tunnel, status=status, headers=Headers(lines))

        return change

    def _each(self, hooks: tuple[Implementation, ...], **values: Any) -> bool:
        try:
            for hook in hooks:
                value = self._calls.call(hook, **values)
                if value is not None:  # such as a coroutine, which has changed nothing yet
                    _close([value])
                    raise self._calls.nonsense(hook.plugin, hook.hook, value)
        except HookFailed:
            return False
        return True


_ALLOWED = Decision(ALLOW)
_ANSWERS = (Allow, Abstain, Refuse, Challenge, Login)


def _with_tunnel(hook: Implementation, tunnel: Tunnel) -> Callable[[Request], Any]:
    function = hook.function
    match hook.arguments:
        case ("tunnel", "request"):
            return lambda request: function(tunnel, request)
        case ("request", "tunnel"):
            return lambda request: function(request, tunnel)
        case ("request",):
            return lambda request: function(request)
        case ("tunnel",):
            return lambda request: function(tunnel)
        case _:
            return lambda request: function()


def _close(answers: list[Any]) -> None:
    """End what among ``answers`` nobody will await; what has begun ends with its task."""
    for answer in answers:
        if inspect.iscoroutine(answer) and inspect.getcoroutinestate(answer) == inspect.CORO_CREATED:
            answer.close()


def _refuse_all(request: Request) -> Refuse:
    return UNDECIDED


def _is_sound(answer: Answer) -> bool:
    """Tell whether an answer may be written to a visitor as it is."""
    match answer:
        case Allow(hidden, finished, bare):
            hideable = isinstance(hidden, frozenset) and all(isinstance(n, str) and may_change(n) for n in hidden)
            return hideable and isinstance(bare, bool) and (finished is None or callable(finished))
        case Abstain(finished):
            return callable(finished)
        case Refuse(status, reason, headers):
            return (
                isinstance(status, int)
                and 400 <= status <= 599
                and _is_text(reason)
                and isinstance(headers, tuple)
                and len(headers) <= MAX_HEADERS
                and all(isinstance(entry, tuple) and len(entry) == 2 and _is_header(*entry) for entry in headers)
            )
        case Challenge(challenge, reason):
            return isinstance(challenge, str) and _is_text(reason) and is_field("www-authenticate", challenge)
        case Login(location, cookies):
            return (
                isinstance(location, str)
                and location.isascii()
                and " " not in location
                and location.startswith(("https://", "http://"))
                and is_field("location", location)
                and isinstance(cookies, tuple)
                and len(cookies) <= MAX_HEADERS
                and all(isinstance(cookie, str) and is_field("set-cookie", cookie) for cookie in cookies)
            )


def _is_text(value: object) -> bool:
    """Tell whether ``value`` is text that can be sent: a lone surrogate cannot."""
    return isinstance(value, str) and len(value) <= MAX_REASON and value.encode("utf-8", "ignore").decode() == value


def _is_header(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, str) and is_field(name, value) and name.lower() not in _OURS


_OURS = frozenset({"connection", "content-length", "content-type", "transfer-encoding", "upgrade", "keep-alive"})
