"""Which requested names are whole host names, and where the proof of each is looked for."""

from __future__ import annotations

from dataclasses import dataclass

import idna
from publicsuffixlist import PublicSuffixList

RECORD = "_tunnel."
MAX_HOST = 253 - len(RECORD)  # characters; the record's own name has to be one, too (RFC 1035 §2.3.4)
MAX_TYPED = 1024  # characters that are normalised at all
MAX_PARENTS = 4  # look-ups that one forward request may cause besides the host's own


class NotPublishable(ValueError):
    """A whole host name that nobody may have here; the text is for the client."""


@dataclass(frozen=True, slots=True)
class Domain:
    """A host name in lower case and A-labels (RFC 5890); with ``wildcard``, any label below it instead.

    ``registrable`` is its suffix that somebody registered: one label below a public suffix.
    """

    host: str
    registrable: str
    wildcard: bool = False

    @property
    def name(self) -> str:
        """The name as a tunnel has it, ``*.`` in front of a wildcard."""
        return f"*.{self.host}" if self.wildcard else self.host

    @property
    def record(self) -> str:
        """Where the proof is looked for first; a wildcard's is that of the name it stands below."""
        return RECORD + self.host

    def records(self, parents: bool) -> tuple[str, ...]:
        """Return every name whose TXT records may hold the proof; the nearest first.

        With ``parents`` these are also the names above, the registrable one last; of more than four, the highest.
        """
        if not parents:
            return (self.record,)
        above = self.host.removesuffix(self.registrable).split(".")[1:-1]
        hosts = [".".join([*above[at:], self.registrable]) for at in range(len(above) + 1)]
        return (self.record, *(RECORD + host for host in hosts[-MAX_PARENTS:] if host != self.host))


class DomainReader:
    """Tells whole host names from other names. ``suffixes`` are endings that count beside the public suffix list."""

    def __init__(self, base_host: str, suffixes: tuple[str, ...] = (), wildcards: bool = True) -> None:
        self._base = base_host
        self._suffixes = tuple(sorted(suffixes, key=len, reverse=True))
        self._wildcards = wildcards
        self._public = PublicSuffixList(accept_unknown=False)

    def read(self, name: str) -> Domain | None:
        """Return the domain that a requested ``name`` means, or ``None`` if it is not a whole host name.

        Not one is what has no dot, a malformed label, an unknown ending, or is the base host or below it.

        Raises:
            NotPublishable: it is a public suffix, or a wildcard that this server does not give.
        """
        wildcard = name.startswith("*.")
        host = normalised(name.removeprefix("*."))
        if host is None or host == self._base or host.endswith("." + self._base):
            return None
        suffix = self._suffix(host)
        if suffix is None or (host == suffix and "." not in name):
            return None
        if host == suffix:
            raise NotPublishable(f"{name} is for nobody alone: {suffix} is a public suffix")
        self._check(host, wildcard)
        return Domain(host, _one_more(host, suffix), wildcard)

    def _check(self, host: str, wildcard: bool) -> None:
        if len(host) > MAX_HOST:
            raise NotPublishable(f"{host[:40]}… is longer than {MAX_HOST} characters")
        if wildcard and not self._wildcards:
            raise NotPublishable("this server publishes no wildcards")
        if wildcard and self._base.endswith("." + host):
            raise NotPublishable(f"*.{host} would stand for this server's own names")

    def _suffix(self, host: str) -> str | None:
        for suffix in self._suffixes:
            if host == suffix or host.endswith("." + suffix):
                return suffix
        return self._public.publicsuffix(host)


def normalised(name: str) -> str | None:
    """Return ``name`` in A-labels and lower case, without its last dot; ``None`` if it is no host name (UTS #46)."""
    if not 0 < len(name) <= MAX_TYPED or name.isspace():
        return None
    try:
        host = idna.encode(name, uts46=True, std3_rules=True).decode("ascii").lower().removesuffix(".")
    except (idna.IDNAError, UnicodeError):
        return None
    return None if host.rpartition(".")[2].isdigit() else host  # digits end an IPv4 address (RFC 1123 §2.1)


def _one_more(host: str, suffix: str) -> str:
    below = host.removesuffix("." + suffix)
    return f"{below.rpartition('.')[2]}.{suffix}"
