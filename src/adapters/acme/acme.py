"""Holds certificates of an ACME server: those it was told to, and those that visitors ask for."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

import structlog

from tunnel_server.adapters.acme.options import DNS, AcmeOptions
from tunnel_server.adapters.acme.order import Orders
from tunnel_server.adapters.acme.proof import Answers
from tunnel_server.adapters.acme.store import Store
from tunnel_server.domain.errors import InvalidSetting, OrderFailed
from tunnel_server.domain.issuance import DAY, Issuance, renewal_time
from tunnel_server.domain.signable import MAX_NAME, unsignable

if TYPE_CHECKING:
    from tunnel_server.adapters.acme.options import CertificateSink
    from tunnel_server.adapters.acme.pair import Pair
    from tunnel_server.domain.metrics import AcmeMetrics
    from tunnel_server.domain.ports import DnsChallenge

LEAVE_WITHIN = 1.5  # seconds to take back a TXT record
ASK_AGAIN = 60.0  # seconds until plugins are asked once more about a host that they forbade
REFUSALS_EVERY = 10.0  # seconds between two log lines on what is not ordered

log = structlog.get_logger()


async def _everything(host: str) -> bool:
    return True


class Acme:
    """Orders, keeps and renews while entered, one certificate at a time, on a thread of its own.

    Enter it after ``certificates`` and before the listeners: what is kept on disk is installed then. Leaving takes
    no longer than two seconds, whatever the ACME server does.

    ``exists`` tells of a host whether visitors find anything there, ``may_order`` whether it may have a certificate.

    Raises:
        InvalidSetting: a wildcard is to be held and there is no ``dns``; on entering: the folder cannot be used.
    """

    def __init__(
        self,
        options: AcmeOptions,
        certificates: CertificateSink,
        exists: Callable[[str], bool],
        metrics: AcmeMetrics,
        dns: DnsChallenge | None = None,
        clock: Callable[[], float] = time.time,
        may_order: Callable[[str], Awaitable[bool]] = _everything,
    ) -> None:
        for host in options.hosts:
            if host.startswith("*.") and dns is None:
                raise InvalidSetting(f"a certificate for {host!r} needs a plugin that answers {DNS} challenges")
        self._options = options
        self._certificates = certificates
        self._exists = exists
        self._may_order = may_order
        self._metrics = metrics
        self._kinds = tuple(kind for kind in options.challenges if kind != DNS or dns is not None)
        if not self._kinds:
            raise InvalidSetting(f"the only ACME challenge is {DNS}, and there is no plugin that answers it")
        self._clock = clock
        self._answers = Answers()
        self._store = Store(options.folder)
        self._orders = Orders(options, self._store, self._answers, dns, clock)
        self._issuance = Issuance(options.limits, random.random)
        self._expiry: dict[str, float] = {}  # of what is installed
        self._wake = asyncio.Event()
        self._refusals = _Refusals(clock)

    # what the ports ask

    def wanted(self, host: str) -> None:
        """Hear that a visitor asks for ``host`` by SNI, and no certificate covers it; in any case, of any length.

        Takes constant time and never raises. An order is queued if the rules allow it; the visitor has gone by then.
        """
        if not self._options.on_demand or not host or len(host) > MAX_NAME:
            return
        host = host.lower()
        if host in self._issuance or not self._known(host):
            return
        reason = self._forbidden(host) or self._issuance.ask(host, self._clock())
        if reason is not None:
            self._metrics.acme_order("refused")
            self._refusals.add(host, reason)
            return
        self._metrics.acme_waiting(self._issuance.waiting)
        self._wake.set()

    def http_answer(self, path: str) -> bytes | None:
        """Return what to answer, as ``application/octet-stream``, to a GET of ``path``, which has no query; on any
        host, by plain HTTP (RFC 8555 §8.3). ``None`` if it is no open challenge's.
        """
        return self._answers.http(path)

    def alpn_certificate(self, server_name: str) -> tuple[bytes, bytes] | None:
        """Return the chain and the key, as PEM, for a handshake that offers ``acme-tls/1`` and nothing else
        (RFC 8737 §3); ``None`` if there is no open challenge for this name.
        """
        return self._answers.alpn(server_name)

    @property
    def pending_alpn(self) -> bool:
        """Whether :meth:`alpn_certificate` has an answer for any name at all."""
        return self._answers.pending_alpn

    # its life

    async def __aenter__(self) -> Self:
        kept = await asyncio.to_thread(self._load)
        for host, pair in kept.items():
            try:
                self._install(host, pair)
            except OrderFailed as failure:  # ordered anew
                log.warning("acme.failed", host=host, reason=str(failure), outage=False, again=0)
        for host in self._options.hosts:
            if host not in self._issuance:
                self._issuance.hold(host, self._clock())
        self._task = asyncio.create_task(self._work(), name="acme")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for limit in (LEAVE_WITHIN, LEAVE_WITHIN / 10):  # the second cancels what cleans up
            self._task.cancel()
            await asyncio.wait([self._task], timeout=limit)
            if self._task.done():
                break
        self._orders.stop()

    def _load(self) -> dict[str, Pair]:
        self._store.prepare()
        wanted = list(self._options.hosts)
        if self._options.on_demand:
            wanted += [host for host in self._store.hosts() if host not in wanted and not host.startswith("*")]
        kept = {}
        for host in wanted[: max(self._options.limits.hosts, len(self._options.hosts))]:
            pair = self._store.load(host)
            if pair is not None:
                kept[host] = pair
        return kept

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            host = self._issuance.next(self._clock())
            self._metrics.acme_waiting(self._issuance.waiting)
            if host is not None:
                await self._attend(host)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._options.look_every):
                    await self._wake.wait()

    # one host

    async def _attend(self, host: str) -> None:
        fixed = host in self._options.hosts
        if not fixed and not self._known(host):
            await self._let_go(host)
            return
        if not fixed and not await self._may_order(host):
            self._metrics.acme_order("refused")
            self._refusals.add(host, "a plugin forbids it")
            self._issuance.skip(host, self._clock() + ASK_AGAIN)
            return
        try:
            pair = await self._orders.get(host, self._choice(host, fixed))
            self._issuance.issued()
            self._install(host, pair, ordered=self._clock())
        except OrderFailed as failure:
            self._failed(host, failure)
        except Exception as error:
            log.exception("acme.error", host=host)
            self._failed(host, OrderFailed(repr(error)[:300]))
        else:
            self._metrics.acme_order("issued")
            log.info("acme.issued", host=host, days=round((pair.not_after - self._clock()) / DAY, 1))

    def _choice(self, host: str, fixed: bool) -> tuple[str, ...]:
        """Return the challenges in the order to prefer them: after a failure the next comes first."""
        if host.startswith("*."):
            return (DNS,)
        # A custom host's zone is its owner's, and no plugin of ours writes there.
        kinds = self._kinds if fixed else tuple(kind for kind in self._kinds if kind != DNS)
        turn = self._issuance.failures(host) % len(kinds)
        return kinds[turn:] + kinds[:turn]

    def _install(self, host: str, pair: Pair, ordered: float = 0.0) -> None:
        now = self._clock()
        if pair.not_after > now:
            try:
                self._certificates.install(_source(host), pair.chain, pair.key)
            except Exception as error:
                raise OrderFailed(f"the certificate cannot be installed: {error!r}"[:300]) from error
            self._expiry[host] = pair.not_after
        self._issuance.hold(host, renewal_time(pair.not_before, pair.not_after, random.random, ordered))

    def _failed(self, host: str, failure: OrderFailed) -> None:
        now = self._clock()
        again = self._issuance.failed(host, now, failure)
        self._metrics.acme_order("failed")
        log.warning("acme.failed", host=host, reason=str(failure), outage=failure.outage, again=round(again - now))

    async def _let_go(self, host: str) -> None:
        """Renew ``host`` no more while it does not exist; its certificate serves until it expires."""
        expiry = self._expiry.get(host, 0.0)
        now = self._clock()
        if now < expiry:
            self._issuance.skip(host, min(now + DAY, expiry))
            return
        self._issuance.skip(host)
        self._expiry.pop(host, None)
        try:
            self._certificates.remove(_source(host))
            await self._orders.run(lambda: self._store.drop(host))
        except Exception:
            log.exception("acme.error", host=host)
        log.info("acme.dropped", host=host)

    # what may be ordered on demand

    def _known(self, host: str) -> bool:
        try:
            return self._exists(host)
        except Exception as error:
            self._refusals.add(host, f"whether it exists cannot be told: {error!r}")
            return False

    def _forbidden(self, host: str) -> str | None:
        base = self._options.on_demand_base
        if base is not None and host.endswith("." + base):
            return "it is below the base host, where a wildcard certificate serves"
        if "*." + host.partition(".")[2] in self._options.hosts:
            return "a wildcard certificate that is to be held covers it"
        return unsignable(host, self._options.private_ca)


def _source(host: str) -> str:
    return f"acme:{host}"


class _Refusals:
    """Says in the log what is not ordered, seldom: visitors decide how often that is."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._said = 0.0
        self._unsaid = 0

    def add(self, host: str, reason: str) -> None:
        now = self._clock()
        if self._said <= now < self._said + REFUSALS_EVERY:
            self._unsaid += 1
            return
        log.info("acme.refused", host=host, reason=reason, unsaid=self._unsaid)
        self._said, self._unsaid = now, 0
