"""A setting that a plugin declares for itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tunnel_server.domain.setting_types import text

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting. The plugin ``my-policy`` that declares ``limit`` is set by ``TUNNEL_SERVER_MY_POLICY_LIMIT``.

    In the settings file its key is ``my_policy_limit``. ``read`` makes the value of the text, or raises ValueError
    saying what is wrong with it; ``default`` is a value, not read. ``limits`` says in words what ``read`` checks.
    A ``secret`` is never shown. ``required`` stops a start without it.

    Raises:
        ValueError: the name is not lower case letters, digits and ``_``, or there is no help.
    """

    name: str
    help: str
    default: Any = ""
    read: Callable[[str], Any] = text
    example: str = ""
    limits: str = ""
    secret: bool = False
    required: bool = False
    env: str | None = None  # a name besides, for the settings of the reference server; of the house's own plugins only

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or _NAME.fullmatch(self.name) is None:
            raise ValueError(f"{self.name!r} is no name of a setting: lower case letters, digits and _")
        if not isinstance(self.help, str) or not self.help:
            raise ValueError(f"the setting {self.name} has no help")
