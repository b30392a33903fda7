"""Which certificate answers for which name (RFC 9525 §6.3, RFC 6066 §3), and when one has to be replaced."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Container, Iterable
from enum import Enum, auto
from typing import Generic, Protocol, TypeVar

MAX_NAME = 253  # characters of a host's name without its last dot, RFC 1035 §2.3.4
SOON = 14 * 86400.0  # seconds before its end from which a certificate is warned of

# Underscores and hyphens anywhere: tunnels have such labels. A last label of digits is of an IPv4 address.
_NAME = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*+(?![0-9]+\Z)[a-z0-9_-]{1,63}")
_ANY_LABEL = "*."


def normalised(name: str) -> str | None:
    """Return a host's name in lower case without its last dot; ``None`` for what is no name, such as an address.

    ``name`` may be anything a peer made up. A name of another script has to come as A-labels (RFC 5890 §2.3.2.1).
    """
    if len(name) > MAX_NAME + 1 or not name.isascii():
        return None
    plain = name.lower().removesuffix(".")
    return plain if len(plain) <= MAX_NAME and _NAME.fullmatch(plain) else None


def covered(patterns: Iterable[str]) -> tuple[str, ...]:
    """Return the names that a certificate stands for, as :func:`normalised` has them, each once.

    ``patterns`` are its DNS names. A wildcard is kept if it is the whole of the first label (RFC 9525 §6.3); what
    matches nothing is dropped.
    """
    names: dict[str, None] = {}
    for pattern in patterns:
        wild = _ANY_LABEL if pattern.startswith(_ANY_LABEL) else ""
        name = normalised(pattern.removeprefix(wild))
        if name is not None:
            names[wild + name] = None
    return tuple(names)


def covers(names: Container[str], name: str) -> bool:
    """Return whether ``names``, of :func:`covered`, hold ``name``, which is normalised."""
    return name in names or _wildcard(name) in names


def _wildcard(name: str) -> str:
    """Return the wildcard that stands for ``name``: that of exactly one label more."""
    return _ANY_LABEL + name.partition(".")[2]


class Certified(Protocol):
    """A certificate, to choose from; times in seconds of the epoch."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """What it stands for, of :func:`covered`."""

    @property
    @abstractmethod
    def not_before(self) -> float:
        """When it begins to be valid."""

    @property
    @abstractmethod
    def not_after(self) -> float:
        """When it ends to be valid."""


C = TypeVar("C", bound=Certified)


class CertificateTable(Generic[C]):
    """Certificates by name; it never changes. ``default``, the first, answers where none is meant.

    Of several with a name, one that has begun to be valid at ``now`` stands before one that has not; then the one
    that ends last.
    """

    def __init__(self, certificates: Iterable[C] = (), now: float = 0.0) -> None:
        self._by_name: dict[str, C] = {}
        self.default: C | None = None
        for certificate in certificates:
            self.default = self.default or certificate
            for name in certificate.names:
                rival = self._by_name.get(name)
                if rival is None or _rank(certificate, now) > _rank(rival, now):
                    self._by_name[name] = certificate

    def find(self, name: str) -> C | None:
        """Return the certificate for a normalised ``name``: one with that very name, else a wildcard, else ``None``."""
        return self._by_name.get(name) or self._by_name.get(_wildcard(name))


def _rank(certificate: Certified, now: float) -> tuple[bool, float]:
    return certificate.not_before <= now, certificate.not_after


class Validity(Enum):
    """Where in its life a certificate is."""

    NOT_YET = auto()
    GOOD = auto()
    ENDS_SOON = auto()
    OVER = auto()


def validity(certificate: Certified, now: float) -> Validity:
    """Return where in its life ``certificate`` is at ``now``, in seconds of the epoch."""
    if now >= certificate.not_after:
        return Validity.OVER
    if now < certificate.not_before:
        return Validity.NOT_YET
    return Validity.ENDS_SOON if certificate.not_after - now < SOON else Validity.GOOD
