"""Text from outside, made safe for a terminal."""

from __future__ import annotations

MAX_LINE = 300  # characters


def printable(text: str, limit: int = MAX_LINE) -> str:
    """Return ``text`` on one line: what does not print is escaped, what is longer than ``limit`` is cut."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text[:limit])
