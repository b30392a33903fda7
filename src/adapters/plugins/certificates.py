"""Whether a certificate may be ordered for a tunnel's whole host name, as the plugins say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from tunnel_server.adapters.plugins.calls import Calls, HookFailed

if TYPE_CHECKING:
    from tunnel_server.adapters.plugins.calls import Implementation


def may_order(hooks: tuple[Implementation, ...], calls: Calls, ours: str) -> Callable[[str], Awaitable[bool]]:
    """Return what tells of a host whether its certificate may be ordered; a plugin that fails forbids it.

    Nothing is asked about hosts that end with ``ours``: they are proved already.
    """

    async def asked(host: str) -> bool:
        if host.endswith(ours):
            return True
        for hook in hooks:
            try:
                answer = await calls.ask(hook, host=host)
                if answer is not None and not isinstance(answer, bool):
                    raise calls.nonsense(hook.plugin, hook.hook, answer)
            except HookFailed:
                return False
            if answer is False:
                return False
        return True

    return asked
