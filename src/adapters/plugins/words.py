"""Runs the commands that plugins add to the words of a session."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import structlog

from tunnel_server.adapters.plugins.calls import Calls, HookFailed
from tunnel_server.domain.rules import CommandResult, Commands
from tunnel_server.hookspecs import Command, CommandFailed, Invocation

if TYPE_CHECKING:
    from tunnel_server.domain.tunnel import Client, Tunnel

MAX_OUTPUT = 1 << 20  # characters
FAILED = CommandResult("the command failed in the server", 1)
_HOOK = "register_commands"

log = structlog.get_logger()


class PluginCommands(Commands):
    """Knows each word's plugin."""

    def __init__(self, calls: Calls, commands: dict[str, tuple[str, Command]]) -> None:
        self._calls = calls
        self._commands = commands

    def words(self) -> tuple[str, ...]:
        return tuple(self._commands)

    async def run(self, words: list[str], client: Client, tunnels: list[Tunnel]) -> CommandResult:
        plugin, command = self._commands[words[0]]
        invocation = Invocation(client, tuple(words[1:]), tuple(tunnels))
        try:
            found = await self._calls.settle(plugin, _HOOK, _result(command, invocation))
            if not isinstance(found, CommandResult):
                raise self._calls.nonsense(plugin, _HOOK, found)
        except HookFailed:
            log.warning("command.failed", command=words[0], plugin=plugin)
            return FAILED
        return found


async def _result(command: Command, invocation: Invocation) -> object:
    try:
        value = command.run(invocation)
        if inspect.isawaitable(value):
            value = await value
    except CommandFailed as failed:
        return CommandResult(str(failed)[:MAX_OUTPUT], failed.status if 0 < failed.status < 256 else 1)
    return CommandResult(value[:MAX_OUTPUT], 0) if isinstance(value, str) else value
