"""Why a peer could not be talked to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Kind(Enum):
    """What it failed by. ``UNREACHABLE``: this machine has no way there. ``UNTRUSTED``: its certificate."""

    REFUSED = auto()
    SILENT = auto()
    UNREACHABLE = auto()
    UNTRUSTED = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Trouble:
    """A failure; ``text`` is for people and may quote the peer, ``code`` is OpenSSL's of a certificate's failure."""

    kind: Kind
    text: str
    code: int = 0
