"""One order, from the first request to the certificate, without blocking the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from tunnel_server.adapters.acme.options import DNS, AcmeOptions
from tunnel_server.adapters.acme.worker import Lifeline, Worker
from tunnel_server.domain.errors import OrderFailed
from tunnel_server.domain.ports import DnsChallenge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tunnel_server.adapters.acme.conversation import Conversation
    from tunnel_server.adapters.acme.pair import Pair
    from tunnel_server.adapters.acme.proof import Answers, Proof
    from tunnel_server.adapters.acme.store import Store

FIRST_LOOK = 0.25  # seconds until the CA is asked again, doubled each time
SLOWEST_LOOK = 8.0
LONGEST_ASKED_LOOK = 60.0
TAKE_BACK_WITHIN = 10.0  # seconds to remove a TXT record

log = structlog.get_logger()


class Orders:
    """Gets certificates, one at a time."""

    def __init__(
        self,
        options: AcmeOptions,
        store: Store,
        answers: Answers,
        dns: DnsChallenge | None,
        clock: Callable[[], float],
    ) -> None:
        self._options = options
        self._store = store
        self._answers = answers
        self._dns = dns
        self._clock = clock
        self._worker = Worker()

    async def get(self, host: str, kinds: tuple[str, ...]) -> Pair:
        """Return a new certificate for ``host``, proved by the first of ``kinds`` that the CA offers, and keep it.

        Raises:
            OrderFailed: there is none, or not within the options' ``order_timeout``.
        """
        try:
            async with asyncio.timeout(self._options.order_timeout):
                return await self._get(host, kinds)
        except TimeoutError:
            raise OrderFailed(f"it took longer than {self._options.order_timeout:g} s") from None

    async def run(self, work: Callable[[], None]) -> None:
        """Do ``work`` on the orders' own thread: something with the disk."""
        await self._worker.run(work)

    def stop(self) -> None:
        """Let go of the thread; no order may be under way."""
        self._worker.stop()

    async def _get(self, host: str, kinds: tuple[str, ...]) -> Pair:
        lifeline = Lifeline()
        try:
            conversation = await self._worker.run(_start, self._options, self._store, lifeline, self._clock)
            try:
                for proof in await self._worker.run(conversation.begin, host, kinds):
                    await self._prove(conversation, proof)
                pair = await self._collect(conversation)
            finally:
                self._worker.begin(conversation.close)
        finally:
            lifeline.cut()  # whatever still waits for the server ends, and the thread is free
        await self._worker.run(self._keep, host, pair)
        return pair

    async def _prove(self, conversation: Conversation, proof: Proof) -> None:
        async with self._answered(proof):
            await self._worker.run(conversation.answer, proof)
            look = _Looks(conversation)
            while not await self._worker.run(conversation.proved, proof):
                await look.wait()

    async def _collect(self, conversation: Conversation) -> Pair:
        await self._worker.run(conversation.finalize)
        look = _Looks(conversation)
        while (pair := await self._worker.run(conversation.fetch)) is None:
            await look.wait()
        return pair

    @asynccontextmanager
    async def _answered(self, proof: Proof) -> AsyncIterator[None]:
        """Have the answer to a challenge stand, wherever it has to."""
        if proof.kind == DNS:
            async with self._published(proof):
                yield
            return
        self._answers.give(proof)
        try:
            yield
        finally:
            self._answers.withdraw(proof)

    @asynccontextmanager
    async def _published(self, proof: Proof) -> AsyncIterator[None]:
        assert self._dns is not None  # or this kind was not among those to choose from
        try:
            try:
                await self._dns.publish(proof.dns_name, proof.dns_value)
            except Exception as error:
                raise OrderFailed(f"the TXT record cannot be published: {error!r}"[:300]) from error
            yield
        finally:
            try:
                async with asyncio.timeout(TAKE_BACK_WITHIN):
                    await self._dns.remove(proof.dns_name, proof.dns_value)
            except Exception as error:
                log.warning("acme.record_left", name=proof.dns_name, reason=repr(error))

    def _keep(self, host: str, pair: Pair) -> None:
        try:
            self._store.save(host, pair)
        except OSError as error:  # it serves all the same until the next start
            log.error("acme.not_kept", host=host, reason=str(error))


def _start(options: AcmeOptions, store: Store, lifeline: Lifeline, clock: Callable[[], float]) -> Conversation:
    from tunnel_server.adapters.acme.conversation import Conversation  # heavy: only where a certificate is ordered

    return Conversation(options, store, lifeline, clock)


class _Looks:
    """The time between two looks at what a CA does: what it asks for, else longer each time."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._next = FIRST_LOOK

    async def wait(self) -> None:
        asked = self._conversation.asked_delay()
        delay = self._next if asked is None else min(max(asked, FIRST_LOOK), LONGEST_ASKED_LOOK)
        self._next = min(self._next * 2, SLOWEST_LOOK)
        await asyncio.sleep(delay)
