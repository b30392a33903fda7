"""Who may log in, as the plugins say."""

from __future__ import annotations

from collections.abc import Mapping
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
                answer = await self._calls.ask(hook, client=client, certificate=certificate)
                if not _is_answer(answer):
                    raise self._calls.nonsense(hook.plugin, hook.hook, answer)
            except HookFailed:
                return FAILED
            answers.append(answer)
            if isinstance(answer, Reject):
                break
        return admit(answers)


def _is_answer(answer: object) -> bool:
    if isinstance(answer, Accept):
        return (
            isinstance(answer.attributes, Mapping)
            and len(answer.attributes) <= MAX_ATTRIBUTES
            and all(isinstance(part, str) for entry in answer.attributes.items() for part in entry)
            and isinstance(answer.expires_at, int | float)
            and not isnan(answer.expires_at)
        )
    return answer is None or (isinstance(answer, Reject) and isinstance(answer.reason, str))
