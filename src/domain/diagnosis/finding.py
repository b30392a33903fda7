"""One check's result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

MAX_QUOTED = 200  # characters of what one stranger said


class Verdict(StrEnum):
    """How a check ended. ``SKIPPED``: it could not be told, or there is nothing to tell; the text says which."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and the ``fix`` of what is wrong; texts may hold what came from outside.

    Raises:
        ValueError: something is wrong and there is no fix.
    """

    verdict: Verdict
    found: str
    fix: str = ""

    def __post_init__(self) -> None:
        if self.verdict in (Verdict.WARNING, Verdict.FAILED) and not self.fix:
            raise ValueError(f"no fix for: {self.found}")


def ok(found: str) -> Finding:
    """All is well."""
    return Finding(Verdict.OK, found)


def warning(found: str, fix: str) -> Finding:
    """It works, and may not for everybody or for ever."""
    return Finding(Verdict.WARNING, found, fix)


def failed(found: str, fix: str) -> Finding:
    """It does not work."""
    return Finding(Verdict.FAILED, found, fix)


def skipped(found: str) -> Finding:
    """It was not looked at, or cannot be told."""
    return Finding(Verdict.SKIPPED, found)


def quoted(text: str) -> str:
    """Return what a stranger said, cut where it is too long to be told."""
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…"


def healthy(findings: Iterable[Finding]) -> bool:
    """Return whether nothing failed."""
    return all(finding.verdict is not Verdict.FAILED for finding in findings)


def summary(findings: Iterable[Finding]) -> str:
    """Return how many ended how, in one line."""
    counts = Counter(finding.verdict for finding in findings)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])
