"""The log: one line an event, JSON for machines, console for people."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

MAX_VALUE = 500  # characters of one value; visitors and clients choose some of them


def configure(form: str, debug: bool, stream: TextIO | None = None) -> None:
    """Log to ``stream`` (standard error) as ``json`` or ``console``; ``auto`` is console on a terminal."""
    out = stream or sys.stderr
    console = form == "console" or (form == "auto" and out.isatty())
    level = logging.DEBUG if debug else logging.INFO
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        harmless,
    ]
    last: Any = (
        structlog.dev.ConsoleRenderer(colors=out.isatty())
        if console
        else structlog.processors.JSONRenderer(sort_keys=False)
    )
    structlog.configure(
        processors=[*shared, last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[_plain, last])
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("asyncssh").setLevel(logging.WARNING)


def harmless(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape what does not print in every text, and cut what is long; a stack trace keeps its lines."""
    return {
        key: value if key == "exception" or not isinstance(value, str) else _escaped(value)
        for key, value in event.items()
    }


def _escaped(text: str) -> str:
    if len(text) > MAX_VALUE:
        text = text[:MAX_VALUE] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _plain(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event.pop("_record", None)
    event.pop("_from_structlog", None)
    return event
