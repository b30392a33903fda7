"""Patterns of ssh_config(5): ``*`` is any text, ``?`` any one character, ``!`` in front excludes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

MAX_ASKED = 255  # characters; a client may ask for 32 KiB, and each pattern would be tried at every one of them


def matches(text: str, pattern: str) -> bool:
    """Return whether ``pattern`` covers the whole of ``text``; time grows with the product of their lengths.

    ``?`` does not stand for a ``*`` in ``text``, which is a pattern itself there and means more than one character.
    """
    at, place, star, retry = 0, 0, -1, 0
    while at < len(text):
        if place < len(pattern) and pattern[place] == "*":
            star, retry = place, at
            place += 1
        elif place < len(pattern) and (pattern[place] == text[at] or (pattern[place] == "?" and text[at] != "*")):
            at, place = at + 1, place + 1
        elif star >= 0:
            retry += 1
            at, place = retry, star + 1
        else:
            return False
    return pattern[place:].strip("*") == ""


@dataclass(frozen=True, slots=True)
class NamePatterns:
    """Which tunnel names and host names may be published; case does not matter.

    A pattern with a dot in it speaks of whole host names too; one without never does, so that ``*`` does not give
    away every domain there is. Any pattern that is excluded by ``!`` wins.
    """

    allowed: tuple[str, ...]
    excluded: tuple[str, ...] = ()

    @classmethod
    def parse(cls, words: Sequence[str]) -> Self:
        """Read patterns, each with an optional ``!`` in front.

        Raises:
            ValueError: a pattern is empty or has a character that no name here has.
        """
        allowed: list[str] = []
        excluded: list[str] = []
        for word in words:
            pattern = word.removeprefix("!").lower()
            if not pattern or not pattern.isprintable() or set(pattern) & set(' :/"!'):
                raise ValueError(f"{word[:80]!r} is not a tunnel name, a host name or a pattern of one")
            (excluded if word.startswith("!") else allowed).append(pattern)
        return cls(tuple(allowed), tuple(excluded))

    def permit(self, asked: str, published: str) -> bool:
        """Return whether a tunnel asked for as ``asked`` may answer on ``published``, a label or a whole host name.

        Of a name that is longer than any should be only ``published`` counts.
        """
        published = published.lower()
        asked = asked.lower() if len(asked) <= MAX_ASKED else published
        if any(matches(name, pattern) for pattern in self.excluded for name in (asked, published)):
            return False
        if "." in published:
            return any("." in pattern and matches(published, pattern) for pattern in self.allowed)
        return any(matches(name, pattern) for pattern in self.allowed for name in (asked, published))
