"""The findings for people, and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tunnel_server.domain.diagnosis.finding import Finding, summary
from tunnel_server.domain.printable import printable

_VERDICT, _CHECK = 8, 18  # columns


def as_text(findings: Mapping[str, Finding]) -> str:
    """Return a line for each finding, one for each fix below it, and a summary; what does not print is escaped."""
    lines = []
    for check, finding in findings.items():
        lines.append(f"{finding.verdict:{_VERDICT}}{check:{_CHECK}} {_whole(finding.found)}")
        if finding.fix:
            lines.append(f"{'':{_VERDICT}}fix: {_whole(finding.fix)}")
    return "\n".join([*lines, summary(findings.values())])


def _whole(text: str) -> str:
    """Return text of any length on one line; pieces, since one alone is cut."""
    return "".join(printable(text[start : start + 200]) for start in range(0, min(len(text), 2000), 200))


def as_json(findings: Mapping[str, Finding]) -> str:
    """Return a list of objects with ``check``, ``verdict``, ``found`` and ``fix``."""
    return json.dumps(
        [
            {"check": check, "verdict": finding.verdict, "found": finding.found, "fix": finding.fix}
            for check, finding in findings.items()
        ],
        indent=2,
    )
