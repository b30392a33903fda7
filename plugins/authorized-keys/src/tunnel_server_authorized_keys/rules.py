"""Who may log in and what may be published: decided from the lines in force, without looking at anything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tunnel_server_authorized_keys.lines import Book, Line, fingerprint
from tunnel_server_authorized_keys.patterns import MAX_ASKED, NamePatterns, matches

if TYPE_CHECKING:
    from tunnel_server import Certificate, Client

PREFIX = "authorized-keys."
_FORWARDING = "permit-port-forwarding"  # the extension of a certificate without which it gives no tunnels


@dataclass(frozen=True, slots=True)
class Login:
    """What a client proved when it logged in: its key, and the certificate if it used one.

    ``authority`` is the fingerprint of the certificate's authority, empty without a certificate.
    """

    key: bytes
    address: str
    authority: str = ""
    principals: tuple[str, ...] = ()
    forwarding: bool = True

    @classmethod
    def now(cls, client: Client, certificate: Certificate | None) -> Self:
        """Return what a client that is logging in has proved."""
        if certificate is None:
            return cls(client.public_key, client.address)
        forwarding = bool(certificate.options.get(_FORWARDING, False))
        authority = fingerprint(certificate.authority)
        return cls(client.public_key, client.address, authority, certificate.principals, forwarding)

    @classmethod
    def before(cls, client: Client) -> Self:
        """Return what a client that is logged in has proved, as :func:`attributes` noted it."""
        noted = client.attributes
        principals = tuple(filter(None, noted.get(PREFIX + "principals", "").split(",")))
        forwarding = noted.get(PREFIX + "forwarding", "yes") == "yes"
        return cls(client.public_key, client.address, noted.get(PREFIX + "authority", ""), principals, forwarding)


@dataclass(frozen=True, slots=True)
class Grant:
    """The line that admits a login, and what it may publish: each of ``names`` has to permit a name."""

    line: Line
    names: tuple[NamePatterns, ...]
    forwarding: bool

    @property
    def expires_at(self) -> float:
        """When the line ends, in seconds since the epoch."""
        return self.line.options.expires_at


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a login is refused that the files know of, in words for the client."""

    reason: str


def find(book: Book, login: Login, now: float) -> Grant | Denial | None:
    """Return what the first line that fits says; the first :class:`Denial` if none fits, ``None`` if none is there.

    As in sshd(8) a certificate needs a line of its authority, and one of the key inside does not do.
    """
    lines = book.authorities.get(login.authority, ()) if login.authority else book.keys.get(login.key, ())
    denial: Denial | None = None
    for line in lines:
        found = _judge(line, login, now)
        if isinstance(found, Grant):
            return found
        denial = denial or found
    return denial


def objection(grant: Grant, asked: str, published: tuple[str, ...]) -> str | None:
    """Return why a tunnel asked for as ``asked`` may not answer on ``published``; ``None`` if it may."""
    if not grant.forwarding:
        return "your key or certificate may not open tunnels"
    for name in published or (asked[:MAX_ASKED],):
        if not all(patterns.permit(asked, name) for patterns in grant.names):
            return f"your key may not publish {name[:253]}"
    return None


def attributes(grant: Grant, login: Login) -> dict[str, str]:
    """Return what is kept with a client, from which :meth:`Login.before` makes its login again."""
    noted = {PREFIX + "line": grant.line.where, PREFIX + "comment": grant.line.comment}
    if login.authority:
        noted[PREFIX + "authority"] = login.authority
        noted[PREFIX + "principals"] = ",".join(login.principals)
        noted[PREFIX + "forwarding"] = "yes" if login.forwarding else "no"
    return noted


def _judge(line: Line, login: Login, now: float) -> Grant | Denial:
    options = line.options
    if options.expires_at <= now:
        return Denial("the time of your key in the server's authorized keys is over")
    if options.sources is not None and not options.sources.permit(login.address):
        return Denial("your key may not be used from this address")
    names = [] if options.listen is None else [options.listen]
    if login.authority:
        permitted = _principals(login.principals, options.principals)
        if isinstance(permitted, Denial):
            return permitted
        names.append(permitted)
    return Grant(line, tuple(names), options.forwarding and login.forwarding)


def _principals(principals: tuple[str, ...], wanted: tuple[str, ...] | None) -> NamePatterns | Denial:
    """Return the names that a certificate's principals are; those that the line does not want do not count."""
    if any(principal.startswith("!") or "," in principal for principal in principals):
        return Denial("a principal of your certificate has ! in front or a comma, which means nothing here")
    counted: list[str] = []
    for principal in principals:
        if wanted is None or any(matches(principal, pattern) for pattern in wanted):
            counted += _pattern(principal)
    if not counted:
        return Denial("your certificate has no principal that is a name you may publish")
    return NamePatterns(tuple(counted))


def _pattern(principal: str) -> tuple[str, ...]:
    try:
        return NamePatterns.parse([principal]).allowed
    except ValueError:
        return ()  # a name of another system, for which the certificate is good too
