"""The directory of an ACME server."""

from __future__ import annotations

import json
import ssl
import time
import urllib.request
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from urllib.error import HTTPError, URLError

MAX_DIRECTORY = 64 << 10  # octets


def read(url: str, trust: ssl.SSLContext, limit: float) -> float | None:
    """Fetch a directory, through the environment's proxies; return how many seconds our clock is behind its server's.

    ``None`` if that does not tell the time. Blocks for up to ``limit`` seconds a step.

    Raises:
        OSError: it cannot be fetched.
        ValueError: what answers is no directory (RFC 8555 §7.1.1), or no HTTP.
    """
    came, date, body = _fetched(url, trust, limit)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):  # the latter for what is nested too deep
        found = None
    if not isinstance(found, dict) or "newOrder" not in found:
        raise ValueError("what answers is no directory of an ACME server")
    try:
        return parsedate_to_datetime(date).timestamp() + 0.5 - came if date else None  # it has whole seconds only
    except (ValueError, OverflowError):
        return None


def _fetched(url: str, trust: ssl.SSLContext, limit: float) -> tuple[float, str | None, bytes]:
    request = urllib.request.Request(url, headers={"User-Agent": "tunnel-server-doctor"})
    try:
        with urllib.request.urlopen(request, timeout=limit, context=trust) as answer:
            return time.time(), answer.headers.get("Date"), answer.read(MAX_DIRECTORY)
    except HTTPError as error:
        with error:
            raise ValueError(f"it answers with status {error.code}") from None
    except URLError as error:
        raise error.reason if isinstance(error.reason, OSError) else ValueError(str(error.reason)) from None
    except ConnectionError:  # closed without an answer, which is an HTTPException too
        raise
    except HTTPException as error:
        raise ValueError(f"the answer is no HTTP: {error}") from None
