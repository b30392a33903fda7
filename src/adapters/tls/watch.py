"""Looks at the files of certificates again and again, and tells what became of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from tunnel_server.adapters.tls.contexts import Certificate, TlsOptions, certificate_from
from tunnel_server.adapters.tls.pairs import Look, Pair, Sources, configured_pairs, pairs_in
from tunnel_server.adapters.tls.pem import Pem
from tunnel_server.domain.errors import InvalidCertificate

SETTLED = 2.0  # seconds; a file changed more lately may change again without its times telling, so it is read again


@dataclass(slots=True)
class Changes:
    """What a look found. ``order`` is all sources that there are."""

    found: list[Certificate] = field(default_factory=list)
    refused: list[tuple[str, InvalidCertificate]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Seen:
    """What is known of a source since the last look."""

    look: tuple[Look, Look] | None = None  # None: read it
    served: bytes | None = None  # digest of the pair that was found good last
    broken: str | None = None  # the state of a pair that cannot be used
    told: bool = False
    absent: bool = False


class Watch:
    """Blocks on the disk: to be called in a thread, one call at a time.

    What is broken or gone is told once two looks in a row found it so: files are written one after the other.
    """

    def __init__(self, sources: Sources, options: TlsOptions, clock: Callable[[], float]) -> None:
        self._sources = sources
        self._options = options
        self._clock = clock
        self._configured: list[Pair] = []
        self._in_folder: list[Pair] = []
        self._folder = _Seen()
        self._seen: dict[str, _Seen] = {}

    def first(self) -> Changes:
        """Look for the first time.

        Raises:
            InvalidCertificate: a pair cannot be used. A key without a certificate is no pair.
        """
        changes = Changes()
        self._configured = configured_pairs(self._sources)
        self._in_folder = pairs_in(self._sources.directory)
        for pair in self._all():
            if pair.stray:
                continue
            seen = self._seen.setdefault(pair.source, _Seen())
            pem = pair.read()
            changes.found.append(certificate_from(pem, self._options))
            seen.served = _digest(pem)
        changes.order = [pair.source for pair in self._all()]
        return changes

    def again(self) -> Changes:
        """Look again; what cannot be used is refused, whatever it is."""
        changes = Changes()
        looked_at = self._configured
        try:
            self._in_folder = pairs_in(self._sources.directory)
            self._folder = _Seen()
            looked_at = self._all()
        except InvalidCertificate as error:
            _note(self._folder, str(self._sources.directory), str(error), error, changes)
        for pair in looked_at:
            self._look_at(pair, changes)
        self._miss(changes)
        changes.order = [pair.source for pair in self._all()]
        return changes

    def _all(self) -> list[Pair]:
        return self._configured + self._in_folder

    def _look_at(self, pair: Pair, changes: Changes) -> None:
        seen = self._seen.setdefault(pair.source, _Seen())
        look = pair.look()  # before reading: what changes meanwhile looks different the next time
        if look == seen.look:
            return
        seen.look = None
        state = ""
        try:
            pem = pair.read()
            digest = _digest(pem)
            state = digest.hex()
            if digest != seen.served:
                changes.found.append(certificate_from(pem, self._options))
                seen.served = digest
        except InvalidCertificate as error:
            _note(seen, pair.source, f"{error} {state}", error, changes)
            return
        seen.broken = None
        if max(half.changed for half in look) < self._clock() - SETTLED:
            seen.look = look

    def _miss(self, changes: Changes) -> None:
        there = {pair.source for pair in self._all()}
        for source, seen in list(self._seen.items()):
            if source in there:
                seen.absent = False
            elif seen.absent:
                del self._seen[source]
                changes.gone.append(source)
            else:
                seen.absent = True


def _note(seen: _Seen, source: str, state: str, error: InvalidCertificate, changes: Changes) -> None:
    """Refuse ``source`` once, if the look before found it in the same broken state."""
    if seen.broken != state:
        seen.broken, seen.told = state, False
    elif not seen.told:
        seen.told = True
        changes.refused.append((source, error))


def _digest(pem: Pem) -> bytes:
    return hashlib.sha256(hashlib.sha256(pem.chain).digest() + pem.key).digest()
