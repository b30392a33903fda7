"""What the server calls: the settings, and who is admitted."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from tunnel_server import Accept, Client, Reject, Server, Setting, hookimpl
from tunnel_server_github_keys import cache
from tunnel_server_github_keys.counts import Counts
from tunnel_server_github_keys.declared import SETTINGS, forges_of
from tunnel_server_github_keys.fetch import Fetcher
from tunnel_server_github_keys.library import Document, Library, Owner
from tunnel_server_github_keys.refresh import Refresh
from tunnel_server_github_keys.rounds import Rounds

PARALLEL = 4  # questions at a time
FIRST_ROUND = 15.0  # seconds that a start without a cache waits for keys; a start may take 30
TURN = 200  # clients judged before others may have the event loop
PREFIX = "github-keys."
UNKNOWN = Reject("your key is not one of those that the allowed users have at GitHub or GitLab")
LOOKING = Reject("your key is being looked up at GitHub or GitLab; try again in a moment")
GONE = "your key is no longer one of those that the allowed users have at GitHub or GitLab"

log = structlog.get_logger()


class GitHubKeys:
    """Admits who has a key at GitHub or GitLab and is allowed, for as long as that is so."""

    name = "github-keys"

    def __init__(self) -> None:
        self._counts = Counts()
        self._owners: Mapping[str, Owner] = {}
        self._refuse_unlisted = True
        self._server: Server | None = None
        self._cache: Path | None = None
        self._kept: Mapping[str, Document] = {}

    @hookimpl
    def register_settings(self) -> Sequence[Setting]:
        return SETTINGS

    @hookimpl
    def configure(self, settings: Mapping[str, Any]) -> None:
        self._library = Library(forges_of(settings), settings["max_stale"])
        self._fetcher = Fetcher(PARALLEL, settings["proxy"])
        self._refresh = Refresh(self._library, self._fetcher, self._counts, PARALLEL)
        self._rounds = Rounds(self._round, settings["interval"], settings["recheck"])
        self._refuse_unlisted = settings["unlisted"] == "refuse"
        self._cache = Path(settings["cache"]) if settings["cache"] else None

    @hookimpl
    def register_metrics(self) -> Sequence[Any]:
        return self._counts.collectors

    @hookimpl
    async def startup(self, server: Server) -> None:
        self._server = server
        await self._fetcher.open()
        await self._load()
        server.spawn(self._rounds.run())
        if not self._owners and not await self._rounds.finished(FIRST_ROUND):
            log.warning("github-keys.slow-start")

    @hookimpl
    async def shutdown(self) -> None:
        await self._fetcher.close()

    @hookimpl
    async def authenticate_client(self, client: Client) -> Accept | Reject | None:
        key = _encoded(client)
        owner = self._owner(key)
        if owner is not None:
            return _accepted(owner)
        over = await self._rounds.look_again(key)
        owner = self._owner(key)
        if owner is not None:
            return _accepted(owner)
        if not self._refuse_unlisted:
            return None
        return UNKNOWN if over or not self._rounds.busy else LOOKING

    @hookimpl
    def authorize_tunnel(self, client: Client) -> Reject | None:
        return Reject(GONE) if _is_ours(client) and self._owner(_encoded(client)) is None else None

    def _owner(self, key: str) -> Owner | None:
        owner = self._owners.get(key)
        return owner if owner is not None and time.time() < owner.until else None

    async def _round(self) -> bool:
        complete = await self._refresh.run()
        self._take()
        self._counts.round_over(time.time(), complete=complete)
        await self._enforce()
        await self._save()
        return complete

    def _take(self) -> None:
        """Let what the library says now be what counts."""
        self._owners = self._library.owners()
        users = {(owner.source, owner.user) for owner in self._owners.values()}
        self._counts.known(len(self._owners), len(users))
        log.info("github-keys.known", keys=len(self._owners), users=len(users))

    async def _enforce(self) -> None:
        """Hang up on those whose key counts no more."""
        assert self._server is not None
        for number, client in enumerate(self._server.clients(), 1):
            if _is_ours(client) and self._owner(_encoded(client)) is None:
                user = client.attributes[PREFIX + "user"]
                log.info("github-keys.disconnected", client_id=str(client.id), user=user, address=client.address)
                self._server.disconnect(client, GONE)
                self._counts.ended()
            if number % TURN == 0:
                await asyncio.sleep(0)

    async def _load(self) -> None:
        if self._cache is None:
            return
        try:
            self._library.documents = await asyncio.to_thread(cache.load, self._cache)
        except cache.BadCache as error:
            log.warning("github-keys.cache-unusable", file=str(self._cache), reason=str(error))
        self._take()

    async def _save(self) -> None:
        documents = dict(self._library.documents)
        if self._cache is None or documents == self._kept:
            return
        try:
            await asyncio.to_thread(cache.save, self._cache, documents)
            self._kept = documents
        except OSError as error:
            log.warning("github-keys.cache-not-kept", file=str(self._cache), reason=error.strerror or str(error))


def _is_ours(client: Client) -> bool:
    return PREFIX + "user" in client.attributes


def _encoded(client: Client) -> str:
    return base64.b64encode(client.public_key).decode("ascii")


def _accepted(owner: Owner) -> Accept:
    return Accept({PREFIX + "user": owner.user, PREFIX + "source": owner.source})
