"""What the server calls: the settings, its answers, and the loop that looks for changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

import structlog

from tunnel_server import Accept, Certificate, Client, ForwardRequest, Reject, Server, Setting, hookimpl, reading
from tunnel_server_authorized_keys.counts import Counts
from tunnel_server_authorized_keys.enforcement import GONE, Enforcement, is_ours
from tunnel_server_authorized_keys.files import KeyFiles, Look, Rest
from tunnel_server_authorized_keys.lines import EMPTY, Book, read_book
from tunnel_server_authorized_keys.rules import Denial, Grant, Login, attributes, find, objection

AGAIN = 60.0  # seconds after a change in which a client that was logging in meanwhile is logged in, or is not
MAX_LOGGED = 50  # refused lines that are logged of one reading

UNLISTED = Reject("your key is not in the server's authorized keys")

log = structlog.get_logger()


class AuthorizedKeys:
    """Admits who is in the files, and holds everybody to their lines for as long as they are connected."""

    name = "authorized-keys"

    def __init__(self) -> None:
        self._counts = Counts()
        self._book: Book = EMPTY
        self._files = KeyFiles(Path())
        self._rest = Rest(Look())
        self._interval = 1.0
        self._refuse_unlisted = True
        self._said: Mapping[str, str] = {}

    @hookimpl
    def register_settings(self) -> Sequence[Setting]:
        return (
            Setting(
                name="path",
                help="The authorized_keys file, or a directory of such files.",
                required=True,
                example="/etc/tunnel-server/authorized_keys",
            ),
            Setting(
                name="unlisted",
                help="What happens to a key that is in none of the files: refuse it, or pass it on to other plugins.",
                default="refuse",
                read=reading.choice("refuse", "pass"),
                limits="refuse or pass",
            ),
            Setting(
                name="interval",
                help="Time between two looks for changes.",
                default=1.0,
                read=reading.duration(0.05, 3600),
                limits="50 ms to 1 h",
            ),
        )

    @hookimpl
    def configure(self, settings: Mapping[str, Any]) -> None:
        path = Path(settings["path"])
        self._files = KeyFiles(path)
        self._interval = settings["interval"]
        self._refuse_unlisted = settings["unlisted"] == "refuse"
        look = self._files.look()
        if "" in look.failures:
            raise ValueError(f"path: {path}: {look.failures['']}")
        self._rest = Rest(look)
        self._note(look)
        self._use(read_book(look.texts), again=False)

    @hookimpl
    def register_metrics(self) -> Sequence[Any]:
        return self._counts.collectors

    @hookimpl
    def startup(self, server: Server) -> None:
        server.spawn(self._watch(Enforcement(server, self._found, self._counts)))

    @hookimpl
    def authenticate_client(self, client: Client, certificate: Certificate | None) -> Accept | Reject | None:
        login = Login.now(client, certificate)
        found = find(self._book, login, time.time())
        if found is None:
            return UNLISTED if self._refuse_unlisted else None
        if isinstance(found, Denial):
            return Reject(found.reason)
        ends = inf if certificate is None else certificate.valid_before
        return Accept(attributes(found, login), min(found.expires_at, ends))

    @hookimpl
    def authorize_tunnel(self, client: Client, request: ForwardRequest, names: tuple[str, ...]) -> Reject | None:
        if not is_ours(client):
            return None
        found = self._found(client)
        if not isinstance(found, Grant):
            return Reject(GONE if found is None else found.reason)
        reason = objection(found, request.name, names)
        return None if reason is None else Reject(reason)

    def _found(self, client: Client) -> Grant | Denial | None:
        return find(self._book, Login.before(client), time.time())

    async def _watch(self, enforcement: Enforcement) -> None:
        """Look for changes for ever. Who is connected is judged at a change, once more soon after, and at an expiry."""
        again_at, expiry = 0.0, inf
        while True:
            await asyncio.sleep(self._interval)
            changed, now = await self._reload(), time.time()
            if changed or now >= min(again_at, expiry):
                await self._enforce(enforcement)
                again_at = now + AGAIN if changed else (inf if now >= again_at else again_at)
                expiry = self._book.next_expiry(now)

    async def _enforce(self, enforcement: Enforcement) -> None:
        """Judge everybody; an error must not end the loop, or removed keys would stay for ever."""
        try:
            await enforcement.run()
        except Exception:
            log.exception("authorized-keys.failed")

    async def _reload(self) -> bool:
        look = await asyncio.to_thread(self._files.look)
        self._note(look)
        settled = self._rest.settled(look)
        if settled is None:
            return False
        self._use(await asyncio.to_thread(read_book, settled.texts), again=True)
        return True

    def _use(self, book: Book, *, again: bool) -> None:
        self._book = book
        self._counts.loaded(book, again=again)
        for line in book.refused[:MAX_LOGGED]:
            log.warning("authorized-keys.line-refused", at=line.where, reason=line.reason)
        say = log.info if book.lines else log.warning
        say("authorized-keys.loaded", lines=book.lines, refused=len(book.refused))

    def _note(self, look: Look) -> None:
        """Count what cannot be read at each look, and log it when it changes."""
        self._counts.looked(look)
        if look.failures != self._said:
            self._said = look.failures
            for name, reason in look.failures.items():
                log.error("authorized-keys.unreadable", file=name or "the whole path", reason=reason)
            if not look.failures:
                log.info("authorized-keys.readable")
