"""Keeps what is logged, so that a test can look at it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, NoReturn

import structlog

Event = dict[str, Any]

log = logging.getLogger("tunnel_server.testing")


class _Tap:
    """A processor that gives each event to everybody who keeps them, and to :mod:`logging`, where pytest shows it."""

    def __init__(self) -> None:
        self.kept: list[list[Event]] = []

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> NoReturn:
        entry = {**event, "level": method}
        for events in self.kept:
            events.append(entry)
        error = event.get("exc_info")
        said = " ".join(f"{key}={value!r}" for key, value in event.items() if key not in ("event", "exc_info"))
        log.log(_level(method), "%s %s", event.get("event"), said, exc_info=error or None)
        raise structlog.DropEvent


def _level(method: str) -> int:
    found = logging.getLevelName("ERROR" if method == "exception" else method.upper())
    return found if isinstance(found, int) else logging.INFO


_TAP = _Tap()


@contextmanager
def kept() -> Iterator[list[Event]]:
    """Give a list that grows by whatever this process logs with structlog meanwhile, ``level`` among its keys."""
    events: list[Event] = []
    # In place: loggers that are bound already share the list.
    processors = structlog.get_config()["processors"]
    if not _TAP.kept:
        processors.insert(0, _TAP)
    _TAP.kept.append(events)
    try:
        yield events
    finally:
        _TAP.kept[:] = [other for other in _TAP.kept if other is not events]
        if not _TAP.kept and _TAP in processors:
            processors.remove(_TAP)
