"""All certificates of the server: which one answers, and their life while the server runs."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import structlog

from tunnel_server.adapters.tls.contexts import ALPN, Certificate, ServerSideTls, TlsOptions, certificate_from
from tunnel_server.adapters.tls.pairs import Sources
from tunnel_server.adapters.tls.pem import Pem
from tunnel_server.adapters.tls.watch import Changes, Watch
from tunnel_server.domain.certificates import CertificateTable, Validity, covers, normalised, validity
from tunnel_server.domain.errors import InvalidCertificate
from tunnel_server.domain.metrics import CertificateMetrics

__all__ = ["Certificate", "Certificates", "InvalidCertificate", "ServerSideTls", "Sources"]

DAY = 86400.0  # seconds between two warnings of the same certificate
NAMES_TOLD = 10  # names of a certificate that a log line has room for

log = structlog.get_logger()


class Certificates:
    """Certificates for the TLS port. While entered, looks at their files every ``look_every`` seconds.

    A connection keeps what it began with. Methods never await, and are to be called in the loop's thread.

    Raises:
        InvalidCertificate: on entering, naming the configured file that cannot be used, and why.
    """

    def __init__(
        self,
        sources: Sources,
        metrics: CertificateMetrics,
        *,
        look_every: float = 1.0,
        key_log: Path | None = None,
        alpn: tuple[str, ...] = ALPN,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._metrics = metrics
        self._look_every = look_every
        self._clock = clock
        self._options = TlsOptions(alpn, key_log)
        self._watch = Watch(sources, self._options, clock)
        self._order: list[str] = []
        self._from_files: dict[str, Certificate] = {}
        self._orphans: set[str] = set()
        self._installed: dict[str, Certificate] = {}
        self._table: CertificateTable[Certificate] = CertificateTable()
        self._table_until = self._warn_at = 0.0
        self.unknown: Callable[[str], None] | None = None
        """Called with each server name that no certificate covers; it may neither block nor raise."""

    async def __aenter__(self) -> Self:
        self._apply(await asyncio.to_thread(self._watch.first))
        if self._table.default is None:
            log.warning("certificate.none", reason="there is no certificate yet, and no connection until there is one")
        self._warn_at = self._clock() + DAY
        self._task = asyncio.create_task(self._look_again())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    # handshakes

    def begin(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, server_name: str | None) -> ServerSideTls | None:
        """Return the server's side of TLS for a client that asked for ``server_name``, which may be anything.

        The name has to be known before the handshake: a context chosen later would resume sessions that began under
        another certificate. ``None`` if there is no certificate at all.
        """
        name = None if server_name is None else normalised(server_name)
        certificate = None if name is None else self._table.find(name)
        if certificate is None:
            if name is not None and self.unknown is not None:
                self.unknown(name)
            certificate = self._table.default
            if certificate is None:
                return None
        tls = cast(ServerSideTls, certificate.context.wrap_bio(incoming, outgoing, server_side=True))
        tls.server_name, tls.certificate = name, certificate
        return tls

    def choose(self, server_name: str | None) -> Certificate | None:
        """Return the certificate that a client gets who asks for ``server_name``; ``None`` if there is none at all."""
        name = None if server_name is None else normalised(server_name)
        return (self._table.find(name) if name is not None else None) or self._table.default

    def covers(self, host: str) -> bool:
        """Return whether a certificate is for ``host``, and not only the one that is shown for want of another."""
        name = normalised(host)
        return name is not None and self._table.find(name) is not None

    def same(self, certificate: Certificate, host: str) -> bool:
        """Return whether a connection with ``certificate`` serves ``host``, a name or an address without port.

        It does if the certificate covers it, or if a new connection for it would get one of the same source.
        """
        name = normalised(host)
        if name is not None and covers(certificate.name_set, name):
            return True
        chosen = self.choose(host)
        return chosen is not None and chosen.source == certificate.source

    # certificates that do not come from files

    def install(self, source: str, chain: bytes, key: bytes) -> None:
        """Serve the certificate of the PEM texts ``chain`` and ``key`` from now on, in place of that of ``source``.

        Raises:
            InvalidCertificate: why it cannot be used; a former one stays.
        """
        pem = Pem(source, chain, key, f"the certificate of {source}", f"the key of {source}")
        try:
            certificate = certificate_from(pem, self._options)
        except InvalidCertificate as error:
            self._refuse(source, error)
            raise
        self._tell(certificate, self._installed.get(source))
        self._installed[source] = certificate
        self._rebuild()

    def remove(self, source: str) -> None:
        """Serve the certificate installed as ``source`` no more. Safe to repeat."""
        if self._installed.pop(source, None) is not None:
            self._forget(source)
            self._rebuild()

    # their life

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(self._look_every)
            try:
                self._apply(await asyncio.to_thread(self._watch.again))
                self._pass_time()
            except Exception:  # whatever happens to the files, the next look may be better
                log.exception("certificate.look-failed")

    def _apply(self, changes: Changes) -> None:
        for source, error in changes.refused:
            self._refuse(source, error)
        for certificate in changes.found:
            self._tell(certificate, self._from_files.get(certificate.source))
            self._from_files[certificate.source] = certificate
        self._orphans.update(source for source in changes.gone if source in self._from_files)
        self._orphans.difference_update(certificate.source for certificate in changes.found)
        dropped = self._drop_orphans()
        self._order = changes.order
        if changes.found or dropped:
            self._rebuild()

    def _drop_orphans(self) -> bool:
        """Forget certificates whose files are gone, but for the last: a wrong one beats none."""
        dropped = False
        for source in list(self._orphans):
            if len(self._from_files) + len(self._installed) > 1:
                self._orphans.discard(source)
                del self._from_files[source]
                self._forget(source)
                dropped = True
        return dropped

    def _rebuild(self) -> None:
        rank = {source: place for place, source in enumerate(self._order)}
        files = sorted(self._from_files.values(), key=lambda one: rank.get(one.source, len(rank)))
        everything = [*files, *self._installed.values()]
        now = self._clock()
        self._table = CertificateTable(everything, now)
        self._table_until = min((one.not_before for one in everything if one.not_before > now), default=float("inf"))

    def _pass_time(self) -> None:
        now = self._clock()
        if now >= self._table_until:
            self._rebuild()
        if now >= self._warn_at:
            self._warn_at = now + DAY
            self._warn([*self._from_files.values(), *self._installed.values()])

    def _tell(self, certificate: Certificate, former: Certificate | None) -> None:
        log.info(
            "certificate.loaded" if former is None else "certificate.reloaded",
            source=certificate.source,
            names=_some(certificate.names),
            expires=_date(certificate.not_after),
            fingerprint=certificate.fingerprint,
        )
        self._metrics.certificate_expires(certificate.source, certificate.not_after)
        self._warn([certificate])

    def _warn(self, certificates: Iterable[Certificate]) -> None:
        now = self._clock()
        for certificate in certificates:
            source, names = certificate.source, _some(certificate.names)
            match validity(certificate, now):
                case Validity.OVER:
                    log.error("certificate.expired", source=source, names=names, expired=_date(certificate.not_after))
                case Validity.ENDS_SOON:
                    log.warning(
                        "certificate.expires-soon", source=source, names=names, expires=_date(certificate.not_after)
                    )
                case Validity.NOT_YET:
                    log.warning(
                        "certificate.not-yet-valid", source=source, names=names, begins=_date(certificate.not_before)
                    )
                case Validity.GOOD:
                    pass

    def _refuse(self, source: str, error: InvalidCertificate) -> None:
        log.error("certificate.refused", source=source, reason=str(error))
        self._metrics.certificate_refused(source)

    def _forget(self, source: str) -> None:
        log.info("certificate.gone", source=source)
        self._metrics.certificate_gone(source)


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - NAMES_TOLD} more" if len(names) > NAMES_TOLD else ""
    return ", ".join(names[:NAMES_TOLD]) + more


def _date(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds")
