"""Every hook that a plugin may implement.

A plugin is a module, an object, or a class that is instantiated once a server; it marks functions of these names
with :data:`hookimpl` and names the arguments that it needs. The page ``docs/plugins/reference.md`` has a section with
an example for each. Hooks said to be async may be written with ``async def`` or without; all others are plain
functions that may not block: the server does nothing else meanwhile.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import pluggy

if TYPE_CHECKING:
    from tunnel_server.domain.access import Answer
    from tunnel_server.domain.admission import Accept, Certificate, Reject
    from tunnel_server.domain.forward import ForwardRequest
    from tunnel_server.domain.naming import BaseUrl
    from tunnel_server.domain.plugin_setting import Setting
    from tunnel_server.domain.ports import DnsChallenge
    from tunnel_server.domain.tunnel import Client, Tunnel
    from tunnel_server.domain.visit import FinishedRequest, Headers, Request

GROUP = "tunnel_server"  # the entry points by which installed plugins are found

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)

RequestPolicy: TypeAlias = "Callable[[Request], Answer | Awaitable[Answer | None] | None]"


class Server(Protocol):
    """What a plugin may ask of the server that runs it. Handed to :func:`startup`; not for other threads."""

    @property
    @abstractmethod
    def base(self) -> BaseUrl:
        """The server's base URL."""

    @abstractmethod
    def clients(self) -> list[Client]:
        """Return the clients that are logged in, once for each of their connections."""

    @abstractmethod
    def tunnels(self) -> list[Tunnel]:
        """Return the live tunnels."""

    @abstractmethod
    def find(self, name: str) -> Tunnel | None:
        """Return the tunnel that answers on a label or whole host name."""

    @abstractmethod
    def of_profile(self, thumbprint: str) -> list[Tunnel]:
        """Return the tunnels of one key, over all its connections."""

    @abstractmethod
    def disconnect(self, client: Client, reason: str) -> None:
        """Hang up on a client, telling it ``reason``; its tunnels close. Safe to repeat."""

    @abstractmethod
    def close(self, tunnel: Tunnel, reason: str) -> None:
        """Close one tunnel, telling its client ``reason``. Safe to repeat."""

    @abstractmethod
    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` beside everything else; it is cancelled at the stop, before :func:`shutdown`.

        An exception out of it is logged and counted as the plugin's, and ends it.
        """


@dataclass(frozen=True, slots=True)
class Invocation:
    """A command that a client executes. ``words`` are those behind the command's own."""

    client: Client
    words: tuple[str, ...]
    tunnels: tuple[Tunnel, ...]  # of its connection, in the order they were opened


class CommandFailed(Exception):
    """Raised by a command: its text goes to standard error, ``status`` is the exit status, 1 to 255."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Command:
    """A word that clients may execute: ``ssh server <name> …``. What ``run`` returns is printed, at most 1 MiB."""

    name: str
    help: str
    run: Callable[[Invocation], str | Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Route:
    """An address of the server's own. ``handler`` is one of aiohttp's: ``async (web.Request) -> web.Response``.

    ``path`` may have aiohttp's patterns. ``hosts`` are those that it is served on: ``""`` is the base host, ``"auth"``
    and ``"api"`` are those below it.
    """

    method: str
    path: str
    handler: Callable[[Any], Awaitable[Any]]
    hosts: tuple[str, ...] = ("",)


# At the start, once each, before anything is served


@hookspec
def register_settings() -> Sequence[Setting]:  # type: ignore[empty-body]
    """Declare settings. Called when settings are read: also by ``tunnel-server config``, so it must do nothing else.

    Combines: the settings of all plugins; each has its own namespace.
    Fails: the server does not start.

    .. versionadded:: 0.1
    """


@hookspec
def configure(settings: Mapping[str, Any]) -> None:
    """Take the values of the plugin's own settings, by the names it declared them with.

    Called once, before any other hook but :func:`register_settings`. A ValueError's text is shown to whoever starts
    the server. A plugin that does not need one of its hooks after all sets it to ``None`` here (``self.request_finished
    = None``), so that it costs nothing.

    Combines: each plugin gets its own.
    Fails: the server does not start.

    .. versionadded:: 0.1
    """


@hookspec
def register_commands() -> Sequence[Command]:  # type: ignore[empty-body]
    """Add words that clients may execute over SSH.

    A command that raises, returns no text or takes longer than ``hook_timeout`` fails for its caller alone.

    Combines: all of them.
    Fails: the server does not start; nor does it if a word is taken.

    .. versionadded:: 0.1
    """


@hookspec
def register_routes() -> Sequence[Route]:  # type: ignore[empty-body]
    """Add addresses to the server's own hosts. A handler that raises answers 500, one that takes longer than
    ``hook_timeout`` after the request's body is there, too.

    Combines: all of them.
    Fails: the server does not start; nor does it if an address is taken.

    .. versionadded:: 0.1
    """


@hookspec
def register_metrics() -> Sequence[Any]:  # type: ignore[empty-body]
    """Add collectors of ``prometheus_client``, made with ``registry=None``, to the metrics.

    Combines: all of them. One that raises when it is read is left out of that reading.
    Fails: the server does not start; nor does it if a name is taken.

    .. versionadded:: 0.1
    """


@hookspec
def dns_challenge() -> DnsChallenge | None:
    """Offer to publish TXT records, so that certificates for wildcards can be had (RFC 8555 §8.4).

    Called once, and only by a server that gets its certificates by ACME.

    Combines: the first that is not ``None`` is used.
    Fails: the server does not start.

    .. versionadded:: 0.1
    """


@hookspec
def startup(server: Server) -> Awaitable[None] | None:
    """Begin. Async; the ports for clients and visitors are opened once all plugins have returned.

    Combines: one after the other.
    Fails: the server does not start; nor does it if one takes longer than 30 s.

    .. versionadded:: 0.1
    """


@hookspec
def shutdown() -> Awaitable[None] | None:
    """End. Async; the last thing that a plugin hears, after connections are closed. Only what started up is told.

    Combines: one after the other, in the reverse order of the start.
    Fails: it is logged and counted; so it is if one takes longer than 5 s.

    .. versionadded:: 0.1
    """


# Clients and their tunnels


@hookspec
def authenticate_client(
    client: Client, certificate: Certificate | None
) -> Accept | Reject | Awaitable[Accept | Reject | None] | None:
    """Say whether a client may log in. Async; runs once its signature was verified, before its login succeeds.

    A client that is rejected is shown the reason, and may try its next key. ``certificate`` is an OpenSSH
    certificate, if it used one; ``client`` is who owns the key inside.

    Combines: any Reject wins; one Accept at least is needed; ``None`` is no opinion. Attributes are joined, the
    earliest ``expires_at`` counts.
    Fails: the client is rejected; so it is after ``hook_timeout``.

    .. versionadded:: 0.1
    """


@hookspec
def name_tunnel(
    client: Client, request: ForwardRequest
) -> str | Sequence[str] | Reject | Awaitable[str | Sequence[str] | Reject | None] | None:
    """Name a tunnel. Async; runs at every forward request, and when a client asks for ``tunnel-url``.

    A name without a dot is a label under the base host, one with dots a whole host name, ``*.`` in front of it any
    label there. Several may be given; the first is the one that clients are told.

    Combines: the first answer that is not ``None``; with none the tunnel gets its usual label. A Reject refuses.
    Names that are malformed, reserved, under the base host with dots, or held by another tunnel refuse the forward.
    Fails: the forward is refused; so it is after ``hook_timeout``.

    .. versionadded:: 0.1
    """


@hookspec
def authorize_tunnel(
    client: Client, request: ForwardRequest, names: tuple[str, ...]
) -> Accept | Reject | ForwardRequest | Awaitable[Accept | Reject | ForwardRequest | None] | None:
    """Say whether a client may have a tunnel. Async; runs after it was named, before it is opened.

    Return ``dataclasses.replace(request, access=…)`` to change ``access``, ``meta``, ``inject`` or ``https_only``;
    ``text`` and ``name`` stay. ``names`` are all that the tunnel would get, its usual label if no plugin named it.

    Combines: any Reject wins; ``None`` and Accept let it pass. Each plugin sees the request as those before changed it.
    Fails: the forward is refused; so it is after ``hook_timeout``.

    .. versionadded:: 0.1
    """


@hookspec
def tunnel_opened(tunnel: Tunnel) -> Awaitable[None] | None:
    """Hear of a tunnel that was opened. Async; told later and in order, never waited for.

    Combines: all are told.
    Fails: it is logged and counted. At most 10,000 events wait for one plugin; further ones are dropped and counted.

    .. versionadded:: 0.1
    """


@hookspec
def tunnel_closed(tunnel: Tunnel) -> Awaitable[None] | None:
    """Hear of a tunnel that was closed. As :func:`tunnel_opened`.

    Combines: all are told.
    Fails: it is logged and counted.

    .. versionadded:: 0.1
    """


# Visitors' requests


@hookspec
def guard_tunnel(tunnel: Tunnel) -> RequestPolicy | None:
    """Return a policy for the requests of one tunnel, or ``None`` if it needs none: its requests then cost nothing.

    Called once a tunnel, before its first request. The policy is called with each :class:`Request`, and answers as
    :func:`authorize_request` does.

    Combines: all policies of a tunnel are asked; see :func:`authorize_request`.
    Fails: every request to the tunnel is refused with 503.

    .. versionadded:: 0.1
    """


@hookspec
def authorize_request(tunnel: Tunnel, request: Request) -> Answer | Awaitable[Answer | None] | None:
    """Say whether a request may pass to a tunnel. Async, but one without ``async`` is quicker; runs for every request.

    A policy that concerns some tunnels only is better made by :func:`guard_tunnel`.

    Combines: any Refuse wins, else any Challenge, else any Login; the first that refuses at once is not followed by
    another. ``None`` and Abstain are no opinion; a private tunnel needs an Allow.
    Fails: the request is refused with 503; so it is after ``hook_timeout``.

    .. versionadded:: 0.1
    """


@hookspec
def transform_request_headers(tunnel: Tunnel, request: Request, headers: Headers) -> None:
    """Change the fields that a service gets, in place. Runs for every request that may pass.

    Combines: one after the other, each sees what those before changed.
    Fails: the request is refused with 502.

    .. versionadded:: 0.1
    """


@hookspec
def transform_response_headers(tunnel: Tunnel, status: int, headers: Headers) -> None:
    """Change the fields of a service's answer, in place. Runs for every final answer, also 101.

    Combines: one after the other, each sees what those before changed.
    Fails: the visitor gets 502 instead of the answer.

    .. versionadded:: 0.1
    """


@hookspec
def request_finished(request: FinishedRequest) -> Awaitable[None] | None:
    """Hear of a request that ended. Async; told later and in order, never waited for.

    Combines: all are told.
    Fails: it is logged and counted. At most 10,000 events wait for one plugin; further ones are dropped and counted.

    .. versionadded:: 0.1
    """


# Certificates


@hookspec
def prove_domain(host: str) -> bool | Awaitable[bool | None] | None:
    """Say whether a certificate may be ordered for the whole host name of a tunnel. Async; for orders on demand.

    Combines: any ``False`` forbids the order; ``None`` is no opinion.
    Fails: no certificate is ordered now; so it is after ``hook_timeout``.

    .. versionadded:: 0.1
    """
