"""The findings for people, and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tunnel_server.domain.diagnosis.finding import Finding, summary
from tunnel_server.domain.printable import printable

_VERDICT, _CHECK = 8, 18  # columns
MAX_TEXT = 2000  # characters of one


def as_text(findings: Mapping[str, Finding]) -> str:
    """Return a line for each finding, one for each fix below it, and a summary; what does not print is escaped."""
    lines = []
    for check, finding in findings.items():
        lines.append(f"{finding.verdict:{_VERDICT}}{check:{_CHECK}} {_line(finding.found)}")
        if finding.fix:
            lines.append(f"{'':{_VERDICT}}fix: {_line(finding.fix)}")
    return "\n".join([*lines, summary(findings.values())])


def _line(text: str) -> str:
    return printable(_bounded(text), MAX_TEXT + 1)


def _bounded(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def as_json(findings: Mapping[str, Finding]) -> str:
    """Return a list of objects with ``check``, ``verdict``, ``found`` and ``fix``."""
    return json.dumps(
        [
            {"check": check, "verdict": finding.verdict, "found": _bounded(finding.found), "fix": _bounded(finding.fix)}
            for check, finding in findings.items()
        ],
        indent=2,
    )
