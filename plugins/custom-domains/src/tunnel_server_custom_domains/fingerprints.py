"""Fingerprints of keys, and the TXT records that hold them."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable

MARK = "tunnel-server="
MAX_RECORDS = 100
MAX_TEXT = 8192  # characters of one record that are read

_FINGERPRINT = re.compile(r"(?i:sha256:)([A-Za-z0-9+/]{43})=?")


def fingerprint(public_key: bytes) -> str:
    """Return the fingerprint of a key in SSH wire format, as ``ssh-keygen -lf`` prints it: ``SHA256:`` and 43
    characters of base64.
    """
    digest = base64.b64encode(hashlib.sha256(public_key).digest()).rstrip(b"=").decode("ascii")
    return f"SHA256:{digest}"


def record_value(print_: str) -> str:
    """Return the text of a TXT record that names one key."""
    return MARK + print_


def read_fingerprint(text: str) -> str | None:
    """Return the fingerprint that ``text`` is, or ``None``. ``sha256`` may be in any case, what follows may not."""
    match = _FINGERPRINT.fullmatch(text)
    return None if match is None else f"SHA256:{match[1]}"


def named_in(records: Iterable[str]) -> frozenset[str]:
    """Return the fingerprints that TXT records name; those without our mark, and words that are none, say nothing.

    An answer of more than 100 records proves nothing: it was not made for us.
    """
    texts = list(records)
    if len(texts) > MAX_RECORDS:
        return frozenset()
    return frozenset(found for text in texts for found in _of_one(text[:MAX_TEXT]))


def _of_one(text: str) -> list[str]:
    if text[: len(MARK)].lower() != MARK:
        return []
    words = [word[len(MARK) :] if word.lower().startswith(MARK) else word for word in text.split()]
    return [found for word in words if (found := read_fingerprint(word)) is not None]
