"""The ``expiry-time=`` option."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)(\d\d)?)?(Z|UTC)?", re.ASCII | re.IGNORECASE)


def read_expiry(text: str) -> float:
    """Return ``YYYYMMDD[Z]`` or ``YYYYMMDDHHMM[SS][Z]`` in seconds since the epoch, as sshd(8) reads it.

    Without ``Z`` it is the time of the machine's own zone; a date alone is the midnight it begins with.

    Raises:
        ValueError: it has another form, is no time of the calendar, or is before 1970.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not YYYYMMDD[Z] or YYYYMMDDHHMM[SS][Z]")
    parts = [int(part or 0) for part in match.groups()[:6]]
    try:
        moment = datetime(*parts, tzinfo=UTC if match[7] else None).timestamp()  # type: ignore[misc,arg-type]
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{text!r} is no time of the calendar") from None
    if moment <= 0:
        raise ValueError(f"{text!r} is before 1970")
    return moment
