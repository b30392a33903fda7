"""Which form of an answer a visitor wants (RFC 9110 §12.5.1)."""

from __future__ import annotations

from enum import Enum, auto

MAX_RANGES = 50  # media ranges that are looked at


class Answer(Enum):
    """The form of an answer."""

    JSON = auto()
    HTML = auto()
    TEXT = auto()


def preferred(accept: str) -> Answer:
    """Return the form for an ``Accept`` field's value: never raises, whatever it is given.

    Only what is named counts: a bare ``*/*``, as command-line tools send it, gets text.
    """
    html = json = 0.0
    for entry in accept.split(",", MAX_RANGES)[:MAX_RANGES]:
        media, *parameters = (part.strip().lower() for part in entry.split(";"))
        if media == "text/html":
            html = max(html, _quality(parameters))
        elif media in ("application/json", "application/*") or (
            media.startswith("application/") and media.endswith("+json")
        ):
            json = max(json, _quality(parameters))
    if json and json >= html:
        return Answer.JSON
    return Answer.HTML if html else Answer.TEXT


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return min(max(float(parameter[2:]), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
