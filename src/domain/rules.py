"""What the domain asks of policies: who may log in, who may have which tunnel, what is done with its requests."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tunnel_server.domain.access import Verdict
    from tunnel_server.domain.admission import Accept, Certificate, Reject
    from tunnel_server.domain.forward import ForwardRequest
    from tunnel_server.domain.tunnel import Client, Tunnel
    from tunnel_server.domain.visit import FinishedRequest, Request


@dataclass(frozen=True, slots=True)
class Decision:
    """The one answer to a request, and who wants to hear of its end."""

    answer: Verdict
    finished: Endings | None = None


class Endings:
    """Those who want to hear of a request's end, once each; who comes after the end hears of it at once."""

    __slots__ = ("_ended", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[Callable[[FinishedRequest], None]] = []
        self._ended: FinishedRequest | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def append(self, tell: Callable[[FinishedRequest], None]) -> None:
        """Add one."""
        if self._ended is None:
            self._waiting.append(tell)
        else:
            tell(self._ended)

    def tell(self, ended: FinishedRequest) -> None:
        """The request ended."""
        self._ended = ended
        for tell in self._waiting:
            tell(ended)


@dataclass(frozen=True, slots=True)
class Pending:
    """An answer that takes time. ``finished`` are those who want to hear of the end already; more may come.

    ``drop`` is called when nobody waits for it any more.
    """

    decision: Coroutine[Any, Any, Verdict]
    finished: Endings
    drop: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Rules:
    """What to do with each request of one tunnel; ``None`` where nobody wants to do anything.

    ``decide`` never raises. ``on_request`` and ``on_response`` change the lines of a head, each a whole field, in
    place, and return whether that went well; the latter is told the status.
    """

    decide: Callable[[Request], Decision | Pending] | None = None
    on_request: Callable[[Request, list[bytes]], bool] | None = None
    on_response: Callable[[int, list[bytes]], bool] | None = None


class RequestRules(Protocol):
    """Knows the rules of each tunnel."""

    @abstractmethod
    def of(self, tunnel: Tunnel) -> Rules | None:
        """Return the rules for the requests of ``tunnel``; ``None`` if there are none. Asked once a tunnel."""

    @abstractmethod
    def listener(self) -> Callable[[FinishedRequest], None] | None:
        """Return who wants to hear of every request that ended; quick, never raises. Asked once."""


class ClientPolicies(Protocol):
    """Says who may log in."""

    @abstractmethod
    async def admit(self, client: Client, certificate: Certificate | None) -> Accept | Reject:
        """Return whether ``client``, whose signature is good, may log in. Never raises."""


class TunnelPolicies(Protocol):
    """Says who may have which tunnel, and what it is called."""

    @abstractmethod
    async def names(self, client: Client, request: ForwardRequest) -> tuple[str, ...]:
        """Return the names for a tunnel, none for its usual label. They are not checked yet.

        Raises:
            ForwardRejected: the tunnel is refused.
        """

    @abstractmethod
    async def authorized(self, client: Client, request: ForwardRequest, names: tuple[str, ...]) -> ForwardRequest:
        """Return the request as policies changed it.

        Raises:
            ForwardRejected: the tunnel is refused.
        """


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command printed: on standard output if its ``status`` is 0, else on standard error."""

    text: str
    status: int


class Commands(Protocol):
    """The words that clients may execute besides the server's own."""

    @abstractmethod
    def words(self) -> tuple[str, ...]:
        """Return the first word of each."""

    @abstractmethod
    async def run(self, words: list[str], client: Client, tunnels: list[Tunnel]) -> CommandResult:
        """Run a command, one of :meth:`words` and what follows it. Never raises."""
