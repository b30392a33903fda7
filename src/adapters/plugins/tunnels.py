"""Who may have which tunnel and what it is called, as the plugins say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tunnel_server.adapters.plugins.calls import Calls, HookFailed, Implementation
from tunnel_server.domain.admission import Accept, Reject
from tunnel_server.domain.errors import ForwardRejected
from tunnel_server.domain.forward import ForwardRequest, Script
from tunnel_server.domain.rules import TunnelPolicies
from tunnel_server.domain.tunnel import Access

if TYPE_CHECKING:
    from tunnel_server.domain.tunnel import Client

FAILED = "this server could not decide whether you may have the tunnel; try again later"
MAX_NAMES = 20


class PluginTunnelPolicies(TunnelPolicies):
    """Asks each plugin in turn."""

    def __init__(self, calls: Calls, naming: tuple[Implementation, ...], policies: tuple[Implementation, ...]) -> None:
        self._calls = calls
        self._naming = naming
        self._policies = policies

    async def names(self, client: Client, request: ForwardRequest) -> tuple[str, ...]:
        for hook in self._naming:
            try:
                answer = await self._calls.ask(hook, client=client, request=request)
                if answer is None:
                    continue
                if isinstance(answer, Reject):
                    raise ForwardRejected(str(answer.reason))
                return self._as_names(hook, answer)
            except HookFailed:
                raise ForwardRejected(FAILED) from None
        return ()

    def _as_names(self, hook: Implementation, answer: object) -> tuple[str, ...]:
        names = (answer,) if isinstance(answer, str) else answer
        if not isinstance(names, Sequence) or not 0 < len(names) <= MAX_NAMES:
            raise self._calls.nonsense(hook.plugin, hook.hook, answer)
        if not all(isinstance(name, str) for name in names):
            raise self._calls.nonsense(hook.plugin, hook.hook, answer)
        return tuple(names)

    async def authorized(self, client: Client, request: ForwardRequest, names: tuple[str, ...]) -> ForwardRequest:
        for hook in self._policies:
            try:
                answer = await self._calls.ask(hook, client=client, request=request, names=names)
                if isinstance(answer, Reject):
                    raise ForwardRejected(str(answer.reason))
                if isinstance(answer, ForwardRequest) and _may_be(answer, request):
                    request = answer
                elif answer is not None and not isinstance(answer, Accept):
                    raise self._calls.nonsense(hook.plugin, hook.hook, answer)
            except HookFailed:
                raise ForwardRejected(FAILED) from None
        return request


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _may_be(changed: ForwardRequest, request: ForwardRequest) -> bool:
    """Tell whether a policy may make ``changed`` of ``request``: what its client knows it by stays."""
    return (
        replace(request, access=changed.access, meta=changed.meta, inject=changed.inject, https_only=changed.https_only)
        == changed
        and _is_json(changed.meta)
        and isinstance(changed.access, Access)
        and isinstance(changed.https_only, bool)
        and isinstance(changed.inject, tuple)
        and all(isinstance(script, Script) for script in changed.inject)
    )
