"""Policies that answer as they are told."""

from __future__ import annotations

from collections.abc import Callable

from tunnel_server.domain.errors import ForwardRejected
from tunnel_server.domain.forward import ForwardRequest
from tunnel_server.domain.metrics import PluginMetrics
from tunnel_server.domain.rules import RequestRules, Rules, TunnelPolicies
from tunnel_server.domain.tunnel import Client, Tunnel
from tunnel_server.domain.visit import FinishedRequest


class FakeTunnelPolicies(TunnelPolicies):
    """Gives every tunnel the same ``given`` names; rejects for a ``reason``, if there is one."""

    def __init__(self, *given: str, reason: str = "", changed: ForwardRequest | None = None) -> None:
        self.given = given
        self.reason = reason
        self.changed = changed
        self.asked: list[tuple[str, ...]] = []

    async def names(self, client: Client, request: ForwardRequest) -> tuple[str, ...]:
        return self.given

    async def authorized(self, client: Client, request: ForwardRequest, names: tuple[str, ...]) -> ForwardRequest:
        self.asked.append(names)
        if self.reason:
            raise ForwardRejected(self.reason)
        return self.changed or request


class FakeRules(RequestRules):
    """Has the same rules for every tunnel."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules
        self.finished: list[FinishedRequest] = []

    def of(self, tunnel: Tunnel) -> Rules | None:
        return self.rules

    def listener(self) -> Callable[[FinishedRequest], None]:
        return self.finished.append


class FakePluginMetrics(PluginMetrics):
    """Remembers what went wrong."""

    def __init__(self) -> None:
        self.failed: list[tuple[str, str, str]] = []

    def plugin_failed(self, plugin: str, hook: str, kind: str) -> None:
        self.failed.append((plugin, hook, kind))
