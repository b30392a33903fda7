"""Who may log in, as the plugins say."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

from tunnel_server.adapters.plugins.calls import Calls, HookFailed, Implementation
from tunnel_server.domain.admission import Accept, Reject, admit
from tunnel_server.domain.rules import ClientPolicies

if TYPE_CHECKING:
    from tunnel_server.domain.admission import Certificate
    from tunnel_server.domain.tunnel import Client

FAILED = Reject("this server could not decide whether to accept the key; try again later")
MAX_ATTRIBUTES = 100


class PluginClientPolicies(ClientPolicies):
    """Asks each plugin in turn; the first that rejects is not followed by another."""

    def __init__(self, calls: Calls, hooks: tuple[Implementation, ...]) -> None:
        self._calls = calls
        self._hooks = hooks

    async def admit(self, client: Client, certificate: Certificate | None) -> Accept | Reject:
        answers: list[Accept | Reject | None] = []
        for hook in self._hooks:
            try:
                answer = _sound(await self._calls.ask(hook, client=client, certificate=certificate))
                if answer is _NONSENSE:
                    raise self._calls.nonsense(hook.plugin, hook.hook, "what is no answer")
            except HookFailed:
                return FAILED
            answers.append(answer)
            if isinstance(answer, Reject):
                break
        return admit(answers)


_NONSENSE = Reject("")


def _sound(answer: object) -> Accept | Reject | None:
    """Return a copy of an answer, with nothing in it that could change or raise; ``_NONSENSE`` if it is none."""
    try:
        if isinstance(answer, Accept):
            ends, attributes = float(answer.expires_at), dict(answer.attributes)
            if isnan(ends) or len(attributes) > MAX_ATTRIBUTES:
                return _NONSENSE
            texts = all(isinstance(part, str) for entry in attributes.items() for part in entry)
            return Accept(attributes, ends) if texts else _NONSENSE
        if answer is None:
            return None
        return answer if isinstance(answer, Reject) and isinstance(answer.reason, str) else _NONSENSE
    except Exception:
        return _NONSENSE
