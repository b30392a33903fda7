"""Whether the machine's clock is right, which certificates, tokens and one-time proofs depend on."""

from __future__ import annotations

from dataclasses import dataclass

from tunnel_server.domain.diagnosis.finding import Finding, failed, ok, skipped, warning

FAILS_AT = 60.0  # seconds; about what those who verify tokens forgive
WARNS_AT = 5.0

KEEP = "keep the clock by a service: `timedatectl set-ntp true`, or install chrony; in a container, on its host"


@dataclass(frozen=True, slots=True)
class Clock:
    """What is known. ``kept`` is the kernel's word, ``None`` if it gives none. ``offset`` is how many seconds the clock
    is behind ``source``, if that answered; else ``problem`` says why not.
    """

    kept: bool | None
    offset: float | None = None
    source: str = ""
    problem: str = ""


def judge(found: Clock) -> Finding:
    """Judge the clock."""
    if found.offset is not None:
        return _by_offset(found.offset, found.source)
    if found.kept:
        return ok("the kernel says that it is kept")
    if found.kept is False:
        return warning(f"nothing seems to keep it, and how wrong it is cannot be told: {found.problem}", KEEP)
    return skipped(f"cannot be told: {found.problem}")


def _by_offset(offset: float, source: str) -> Finding:
    size = f"{abs(offset):.1f} s" if abs(offset) < 10_000 else f"{abs(offset) / 86400:.1f} days"
    shown = f"{size} {'behind' if offset > 0 else 'ahead of'} {source}"
    if abs(offset) >= FAILS_AT:
        return failed(f"{shown}: certificates and tokens are taken for expired or not yet valid", KEEP)
    return warning(shown, KEEP) if abs(offset) >= WARNS_AT else ok(shown)
