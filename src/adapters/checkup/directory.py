"""The directory of an ACME server."""

from __future__ import annotations

import json
import ssl
import time
import urllib.request
from email.utils import parsedate_to_datetime

MAX_DIRECTORY = 64 << 10  # octets


def read(url: str, trust: ssl.SSLContext, limit: float) -> float | None:
    """Fetch a directory, through the environment's proxies; return how many seconds our clock is behind its server's.

    ``None`` if that does not tell the time. Blocks for up to ``limit`` seconds a step.

    Raises:
        OSError: it cannot be fetched.
        ValueError: it is no directory (RFC 8555 §7.1.1).
    """
    request = urllib.request.Request(url, headers={"User-Agent": "tunnel-server-doctor"})
    with urllib.request.urlopen(request, timeout=limit, context=trust) as answer:
        came = time.time()
        found = json.loads(answer.read(MAX_DIRECTORY))
        date = answer.headers.get("Date")
    if not isinstance(found, dict) or "newOrder" not in found:
        raise ValueError("what answers is no directory of an ACME server")
    try:
        return parsedate_to_datetime(date).timestamp() + 0.5 - came if date else None  # it has whole seconds only
    except ValueError:
        return None
