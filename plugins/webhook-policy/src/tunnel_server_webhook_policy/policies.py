"""The endpoint's decisions as the hooks give them, its failures included."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tunnel_server import Accept, Answer, Certificate, Client, ForwardRequest, Refuse, Reject, Request, Tunnel
from tunnel_server_webhook_policy.answers import Changes
from tunnel_server_webhook_policy.asker import Asker
from tunnel_server_webhook_policy.endpoint import AskFailed
from tunnel_server_webhook_policy.questions import (
    Question,
    Telling,
    about_client,
    about_request,
    about_tunnel,
    is_json,
)

NOT_NOW = "the access policy of this server cannot be asked now: try again later"


@dataclass(frozen=True, slots=True)
class ClientPolicy:
    """Decides who may log in. With ``lenient``, anybody may while the endpoint fails."""

    asker: Asker
    lenient: bool

    async def decide(self, client: Client, certificate: Certificate | None) -> Accept | Reject | None:
        """Return the endpoint's decision."""
        try:
            answer: Accept | Reject | None = (await self.asker.ask(about_client(client, certificate))).value
        except AskFailed:
            return Accept() if self.lenient else Reject(NOT_NOW)
        return answer


@dataclass(frozen=True, slots=True)
class TunnelPolicy:
    """Decides who may have which tunnel. With ``lenient``, it has no opinion while the endpoint fails."""

    asker: Asker
    lenient: bool

    async def decide(
        self, client: Client, request: ForwardRequest, names: tuple[str, ...]
    ) -> Accept | Reject | ForwardRequest | None:
        """Return the endpoint's decision; a request with its changes made, if there are any."""
        if not is_json(request.meta):
            return Reject("meta has a number, or a depth, that JSON does not have")
        try:
            answer = (await self.asker.ask(about_tunnel(client, request, names))).value
        except AskFailed:
            return None if self.lenient else Reject(NOT_NOW)
        if isinstance(answer, Changes):
            return answer.of(request) if answer.changed else Accept()
        rejected: Reject | None = answer
        return rejected


@dataclass(frozen=True, slots=True)
class RequestPolicy:
    """Decides which requests pass. With ``lenient``, it has no opinion while the endpoint fails: a private tunnel
    needs another policy's Allow all the same.
    """

    asker: Asker
    lenient: bool
    telling: Telling

    def of(self, tunnel: Tunnel) -> Callable[[Request], Answer | Awaitable[Answer | None] | None]:
        """Return the policy of one tunnel. What is remembered is answered at once, without a task."""

        def policy(request: Request) -> Answer | Awaitable[Answer | None] | None:
            question = about_request(tunnel, request, self.telling)
            known = self.asker.known(question)
            if known is None:
                return self._ask(question)
            answer: Answer | None = known.value
            return answer

        return policy

    async def _ask(self, question: Question) -> Answer | None:
        try:
            answer: Answer | None = (await self.asker.ask(question)).value
        except AskFailed as failure:
            if failure.outcome == "not_asked":  # the visitor's own doing, which no leniency is for
                return Refuse(431, "The request is too long for the access policy of this server.")
            again = (("Retry-After", str(self.asker.retry_after)),)
            return None if self.lenient else Refuse(503, "The access policy of this server cannot be asked now.", again)
        return answer
