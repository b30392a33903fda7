"""The hooks."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from tunnel_server import (
    Accept,
    Certificate,
    Client,
    FinishedRequest,
    ForwardRequest,
    Reject,
    Server,
    Setting,
    Tunnel,
    hookimpl,
)
from tunnel_server import RequestPolicy as Policy
from tunnel_server_webhook_policy.answers import Told, read_client, read_request, read_tunnel
from tunnel_server_webhook_policy.asker import Asker, AskerRules
from tunnel_server_webhook_policy.breaker import Breaker
from tunnel_server_webhook_policy.cache import Cache
from tunnel_server_webhook_policy.endpoint import Endpoint, EndpointOptions
from tunnel_server_webhook_policy.events import EventRules, Events
from tunnel_server_webhook_policy.happenings import of_request, of_tunnel
from tunnel_server_webhook_policy.metrics import Metrics
from tunnel_server_webhook_policy.policies import ClientPolicy, RequestPolicy, TunnelPolicy
from tunnel_server_webhook_policy.questions import Telling
from tunnel_server_webhook_policy.settings import EVENTS, SETTINGS, is_loopback

_READERS = {"client": read_client, "tunnel": read_tunnel, "request": read_request}


class WebhookPolicy:
    """Asks an endpoint, and tells it."""

    def __init__(self) -> None:
        self._metrics = Metrics()
        self._events: Events | None = None
        self._askers: list[Asker] = []
        self._clients: ClientPolicy | None = None
        self._tunnels: TunnelPolicy | None = None
        self._requests: RequestPolicy | None = None

    @hookimpl
    def register_settings(self) -> Sequence[Setting]:
        return SETTINGS

    @hookimpl
    def register_metrics(self) -> Sequence[Any]:
        return self._metrics.collectors

    @hookimpl
    def configure(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        for name in "url", "events_url":
            _check_scheme(name, settings[name], settings["insecure"])
        self._endpoint = Endpoint(
            EndpointOptions(
                settings["secrets"],
                settings["timeout"],
                settings["connections"],
                _context(settings["ca_file"]),
                settings["signed_answers"],
            )
        )
        for event in set(EVENTS) - set(settings["events"]):  # what nobody is told costs a request nothing
            setattr(self, event, None)

    @hookimpl
    async def startup(self, server: Server) -> None:
        chosen = self._settings
        await self._endpoint.__aenter__()
        if "client" in chosen["decide"]:
            self._clients = ClientPolicy(self._asker("client"), self._lenient("client"))
        if "tunnel" in chosen["decide"]:
            self._tunnels = TunnelPolicy(self._asker("tunnel"), self._lenient("tunnel"))
        if "request" in chosen["decide"]:
            telling = Telling(chosen["request_parts"], chosen["forward_headers"])
            self._requests = RequestPolicy(self._asker("request"), self._lenient("request"), telling)
        if chosen["events"]:
            self._events = Events(self._event_rules(), self._endpoint, self._metrics)
            server.spawn(self._events.run())

    @hookimpl
    async def shutdown(self) -> None:
        if self._events is not None:
            await self._events.finish()
        for asker in self._askers:
            await asker.stop()
        await self._endpoint.__aexit__(None, None, None)

    @hookimpl
    async def authenticate_client(self, client: Client, certificate: Certificate | None) -> Accept | Reject | None:
        return None if self._clients is None else await self._clients.decide(client, certificate)

    @hookimpl
    async def authorize_tunnel(
        self, client: Client, request: ForwardRequest, names: tuple[str, ...]
    ) -> Accept | Reject | ForwardRequest | None:
        return None if self._tunnels is None else await self._tunnels.decide(client, request, names)

    @hookimpl
    def guard_tunnel(self, tunnel: Tunnel) -> Policy | None:
        if self._requests is None or not self._is_guarded(tunnel):
            return None
        return self._requests.of(tunnel)

    @hookimpl
    def tunnel_opened(self, tunnel: Tunnel) -> None:
        self._tell("tunnel_opened", tunnel)

    @hookimpl
    def tunnel_closed(self, tunnel: Tunnel) -> None:
        self._tell("tunnel_closed", tunnel)

    @hookimpl
    def request_finished(self, request: FinishedRequest) -> None:
        if self._events is not None:
            self._events.put("request_finished", of_request(request))

    def _tell(self, event: str, tunnel: Tunnel) -> None:
        if self._events is not None:
            self._events.put(event, of_tunnel(tunnel))

    def _is_guarded(self, tunnel: Tunnel) -> bool:
        patterns = self._settings["request_tunnels"]
        return any(fnmatchcase(name, pattern) for name in tunnel.names for pattern in patterns)

    def _lenient(self, kind: str) -> bool:
        return bool(self._settings[f"on_{kind}_failure"] == "allow")

    def _asker(self, kind: str) -> Asker:
        chosen = self._settings
        rules = AskerRules(kind, chosen["url"], chosen["cache_longest"])
        # one of each for every kind: visitors who wear out one keep no client from logging in
        breaker = Breaker(chosen["breaker_failures"], chosen["breaker_pause"], time.monotonic)
        cache: Cache[Told] = Cache(chosen["cache_answers"], time.monotonic)
        asker = Asker(rules, self._endpoint, _READERS[kind], (breaker, cache), self._metrics)
        self._askers.append(asker)
        return asker

    def _event_rules(self) -> EventRules:
        chosen = self._settings
        url = chosen["events_url"] or chosen["url"]
        return EventRules(url, chosen["events_queue"], chosen["events_batch"], chosen["events_retry_for"])


def _check_scheme(name: str, url: str, insecure: str) -> None:
    plain = url.startswith("http:")
    if plain and insecure != "any" and not (insecure == "loopback" and is_loopback(url)):
        raise ValueError(f"{name} is not https, and insecure is {insecure}")


def _context(ca_file: str) -> ssl.SSLContext | None:
    if not ca_file:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"ca_file {ca_file} cannot be used: {error.strerror or error}") from None
