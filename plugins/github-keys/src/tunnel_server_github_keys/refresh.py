"""Asking the forges for everything that is wanted, once."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import structlog

from tunnel_server_github_keys.counts import Counts
from tunnel_server_github_keys.fetch import Fetcher, RateLimited, Reply, Unavailable
from tunnel_server_github_keys.forges import MAX_PAGES, Forge, Unreadable, read_keys, read_members
from tunnel_server_github_keys.library import Document, Library

MAX_IN_A_ROW = 3  # failures after which a forge is left alone until the next round
MAX_USERS = 20_000  # of one forge
MAX_LOGGED = 20  # failures that are logged of one forge in one round

log = structlog.get_logger()


@dataclass(slots=True)
class _Round:
    """How one round with one forge goes."""

    users: Iterator[str]
    in_a_row: int = 0
    failures: int = 0
    limited: RateLimited | None = None

    @property
    def over(self) -> bool:
        return self.in_a_row >= MAX_IN_A_ROW or self.limited is not None


class Refresh:
    """Brings ``library`` up to date. What cannot be had stays as it was, and grows old."""

    def __init__(self, library: Library, fetcher: Fetcher, counts: Counts, parallel: int) -> None:
        self._library = library
        self._fetcher = fetcher
        self._counts = counts
        self._parallel = parallel
        self._paused: dict[str, float] = {}

    async def run(self) -> bool:
        """Ask every forge; return whether all answered every question."""
        complete = await asyncio.gather(*map(self._forge, self._library.forges))
        self._library.forget_others()
        return all(complete)

    async def _forge(self, forge: Forge) -> bool:
        if time.time() < self._paused.get(forge.source, 0.0):
            return False
        try:
            complete = [await self._group(forge, group) for group in forge.groups]
            return await self._users(forge) and all(complete)
        except RateLimited as limit:
            self._paused[forge.source] = limit.until
            log.warning("github-keys.paused", source=forge.source, seconds=round(limit.until - time.time()))
            return False

    async def _group(self, forge: Forge, group: str) -> bool:
        """Ask for the members of a group. Its pages count together: one old page among new ones would lose people."""
        try:
            pages = await self._pages(forge, group)
        except RateLimited:
            raise
        except (Unavailable, Unreadable) as error:
            log.warning("github-keys.failed", source=forge.source, group=group, reason=str(error))
            return False
        self._library.documents.update(pages)
        return True

    async def _pages(self, forge: Forge, group: str) -> dict[str, Document]:
        pages: dict[str, Document] = {}
        for number in range(1, MAX_PAGES + 1):
            url = forge.members_url(group, number)
            reply = await self._ask(forge, url, members=True)
            if reply.status == 404:
                raise Unavailable("there is no such group, or the token may not see it")
            pages[url] = self._same(url) if reply.status == 304 else _members(forge, reply)
            if not pages[url].more:
                return pages
        raise Unavailable(f"it has more than {MAX_PAGES} pages of members")

    async def _users(self, forge: Forge) -> bool:
        """Ask for the keys of every user, those first that were not confirmed for the longest time."""
        now, documents = time.time(), self._library.documents
        users = [user for user, until in self._library.users(forge).items() if until > now]
        if len(users) > MAX_USERS:
            log.warning("github-keys.too-many-users", source=forge.source, left_out=len(users) - MAX_USERS)
        ages = {user: documents[url].at for user in users if (url := forge.keys_url(user)) in documents}
        users = sorted(users[:MAX_USERS], key=lambda user: ages.get(user, 0.0))
        state = _Round(iter(users))
        async with asyncio.TaskGroup() as group:
            for _ in range(self._parallel):
                group.create_task(self._work(forge, state))
        if state.limited is not None:
            raise state.limited
        return not state.failures

    async def _work(self, forge: Forge, state: _Round) -> None:
        for user in state.users:
            try:
                await self._user(forge, user)
                state.in_a_row = 0
            except RateLimited as limit:
                state.limited = limit
            except (Unavailable, Unreadable) as error:
                state.in_a_row += 1
                state.failures += 1
                if state.failures <= MAX_LOGGED:
                    log.warning("github-keys.failed", source=forge.source, user=user, reason=str(error))
            if state.over:
                return

    async def _user(self, forge: Forge, user: str) -> None:
        url = forge.keys_url(user)
        reply = await self._ask(forge, url)
        if reply.status == 404:
            log.warning("github-keys.no-such-user", source=forge.source, user=user)
        self._library.documents[url] = self._same(url) if reply.status == 304 else _keys(reply)

    def _same(self, url: str) -> Document:
        """Return the document that a server says is still the same, as of now."""
        known = self._library.documents.get(url)
        if known is None:
            raise Unreadable("the answer is as before, but there was none")
        return replace(known, at=time.time())

    async def _ask(self, forge: Forge, url: str, *, members: bool = False) -> Reply:
        known = self._library.documents.get(url)
        etag = known.etag if known is not None else ""
        try:
            reply = await self._fetcher.get(url, etag, forge.api_headers if members else {})
        except RateLimited:
            self._counts.asked(forge.source, "limited")
            raise
        except Unavailable:
            self._counts.asked(forge.source, "failed")
            raise
        self._counts.asked(forge.source, {200: "new", 304: "same", 404: "missing"}[reply.status])
        return reply


def _members(forge: Forge, reply: Reply) -> Document:
    names, full = read_members(forge, reply.body)
    return Document(time.time(), names, reply.etag, reply.more or full)


def _keys(reply: Reply) -> Document:
    keys = read_keys(reply.body)  # of a user that does not exist there are none
    return Document(time.time(), tuple(base64.b64encode(key).decode("ascii") for key in keys), reply.etag)
