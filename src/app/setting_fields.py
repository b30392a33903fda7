"""How a setting is declared: a dataclass field that knows how it is read and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tunnel_server.domain.plugin_setting import Setting
from tunnel_server.domain.setting_types import duration, size, whole

PORT = whole(0, 65535)
PORT_LIMITS = "0 to 65535; 0 lets the system choose"


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a setting besides its value. ``env`` is its name at the reference server, if it has one."""

    read: Callable[[str], Any]
    help: str
    example: str
    env: str | None
    limits: str
    secret: bool


def setting(
    default: Any,
    read: Callable[[str], Any],
    help: str,
    example: str,
    *,
    env: str | None = None,
    limits: str = "",
    secret: bool = False,
) -> Any:
    """Declare a setting: ``read`` makes its value of text, or raises ValueError saying what is wrong."""
    return field(default=default, metadata={"about": About(read, help, example, env, limits, secret)})


def as_about(declared: Setting) -> About:
    """Return what is known of a setting that a plugin declares."""
    return About(declared.read, declared.help, declared.example, declared.env, declared.limits, declared.secret)


def seconds(default: float, help: str, low: float = 0.1, high: float = 86400.0) -> Any:
    """Declare a duration."""
    example = f"{default:g}s"
    return setting(default, duration(low, high), help, example, limits=f"{low:g} to {high:g} seconds")


def count(default: int, help: str, low: int = 1, high: int = 1_000_000) -> Any:
    """Declare a number of things."""
    return setting(default, whole(low, high), help, str(default), limits=f"{low} to {high}")


def buffer(whose: str) -> Any:
    """Declare a socket's buffer."""
    return setting(
        0,
        size(4096, 64 << 20, or_none=True),
        f"kernel's buffer of {whose}, each way; 0: the system sees to it",
        "1MiB",
        limits="4 KiB to 64 MiB, or 0",
    )
