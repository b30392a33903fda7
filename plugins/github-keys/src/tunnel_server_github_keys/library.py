"""What the forges said last, by URL, and whose key is whose according to that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from tunnel_server_github_keys.forges import MAX_PAGES, Forge


@dataclass(frozen=True, slots=True)
class Document:
    """An answer: ``items`` are names of members, or keys in base64. ``at`` is when it was last known to be true."""

    at: float
    items: tuple[str, ...]
    etag: str = ""
    more: bool = False


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose key one is, and until when that counts, in seconds since the epoch."""

    source: str
    user: str
    until: float


class Library:
    """Documents by URL. ``max_stale`` is how many seconds one counts that could not be confirmed since."""

    def __init__(self, forges: Sequence[Forge], max_stale: float) -> None:
        self.forges = forges
        self._max_stale = max_stale
        self.documents: dict[str, Document] = {}

    def pages(self, forge: Forge, group: str) -> list[tuple[str, Document]]:
        """Return the pages of a group that are known, each with its URL, in their order."""
        found: list[tuple[str, Document]] = []
        for number in range(1, MAX_PAGES + 1):
            url = forge.members_url(group, number)
            document = self.documents.get(url)
            if document is None:
                break
            found.append((url, document))
            if not document.more:
                break
        return found

    def users(self, forge: Forge) -> dict[str, float]:
        """Return every user that counts, and until when; who is named in the settings counts for ever."""
        users = dict.fromkeys(forge.users, inf)
        for group in forge.groups:
            for _, page in self.pages(forge, group):
                for name in page.items:
                    users[name] = max(users.get(name, 0.0), page.at + self._max_stale)
        return users

    def owners(self) -> Mapping[str, Owner]:
        """Return who owns each key, given in base64; of a key that two have, the one for whom it counts longest."""
        owners: dict[str, Owner] = {}
        for forge in self.forges:
            for user, until in self.users(forge).items():
                document = self.documents.get(forge.keys_url(user))
                if document is not None:
                    ends = min(until, document.at + self._max_stale)
                    for key in document.items:
                        if key not in owners or owners[key].until < ends:
                            owners[key] = Owner(forge.source, user, ends)
        return owners

    def forget_others(self) -> None:
        """Drop what nobody asks for any more."""
        wanted = {url for forge in self.forges for url in self._urls(forge)}
        self.documents = {url: document for url, document in self.documents.items() if url in wanted}

    def _urls(self, forge: Forge) -> Iterable[str]:
        for group in forge.groups:
            yield from (url for url, _ in self.pages(forge, group))
        yield from map(forge.keys_url, self.users(forge))
