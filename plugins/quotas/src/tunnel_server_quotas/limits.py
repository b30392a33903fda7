"""What may be had: plain values, 0 being no limit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Self

SCOPES = ("visitor", "tunnel", "key")

MAX_RATE = 100_000.0  # requests a second; beyond it a limit limits nothing that this server can do
MAX_COUNT = 1_000_000

_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(?:/\s*(s|m|h))?")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_MIN_RATE = 1 / 3600
# A burst adds up one interval after the other, and each sum is rounded: without some play its last request is refused.
_PLAY = 0.001


def rate(value: str) -> float:
    """Read requests per second: ``10``, ``0.5``, or with another unit ``30/m`` or ``600/h``; 0 is no limit."""
    match = _RATE.fullmatch(value.strip())
    if match is None:
        raise ValueError("is not a rate, such as 10, 30/m or 600/h")
    per_second = float(match[1]) / _SECONDS[match[2] or "s"]
    if per_second and not _MIN_RATE * 0.999 <= per_second <= MAX_RATE:
        raise ValueError(f"is not 0, nor from 1/h to {MAX_RATE:g} a second")
    return per_second


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast requests of one visitor, tunnel or key may come, and how many may run at a time.

    ``burst`` is how many may come at once; 0 stands for as many as come in a second, one at least. ``interval`` is the
    seconds from one to the next, 0 if any number may come; ``slack`` is how many seconds of them may be ahead of time.
    """

    per_second: float = 0.0
    burst: int = 0
    concurrent: int = 0
    interval: float = field(init=False)
    slack: float = field(init=False)

    def __post_init__(self) -> None:
        interval = 1 / self.per_second if self.per_second else 0.0
        burst = self.burst or max(1, ceil(self.per_second))
        object.__setattr__(self, "interval", interval)
        object.__setattr__(self, "slack", (burst - 1 + _PLAY) * interval)

    @property
    def limits(self) -> bool:
        """Whether this limits anything."""
        return bool(self.interval or self.concurrent)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one key may have. ``bytes_per_day`` are octets in both directions, of a day in UTC."""

    tunnels: int = 0
    bytes_per_day: int = 0
    visitor: Pace = Pace()
    tunnel: Pace = Pace()
    key: Pace = Pace()

    @property
    def limits_requests(self) -> bool:
        """Whether requests are limited in any way."""
        return bool(self.bytes_per_day or self.visitor.limits or self.tunnel.limits or self.key.limits)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Make limits of the values of settings, by their names."""
        return cls(
            tunnels=values["tunnels_per_key"],
            bytes_per_day=values["bytes_per_day"],
            **{scope: _pace(values, scope) for scope in SCOPES},
        )


def _pace(values: Mapping[str, Any], scope: str) -> Pace:
    return Pace(
        per_second=values[f"requests_per_second_per_{scope}"],
        burst=values[f"burst_per_{scope}"],
        concurrent=values[f"concurrent_requests_per_{scope}"],
    )
