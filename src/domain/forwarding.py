"""Which header fields pass a proxy, and what it says of the visitor (RFC 9110 §7.6.1, RFC 7239)."""

from __future__ import annotations

import re

# Fields that concern one connection only. ``Proxy-Connection`` is not in any RFC, but old clients send it.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    }
)

# Fields in which a proxy in front tells of the visitor; anybody else who sends them may be lying.
VISITOR_FIELDS = frozenset(
    {
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-real-ip",
    }
)

# Fields a ``Connection`` field may not take away: each is needed to read the message or to know who sent it.
NOT_REMOVABLE = frozenset({b"host", b"content-length", b"content-type", b"cookie", b"authorization"})

_MATTERS = HOP_BY_HOP | VISITOR_FIELDS | NOT_REMOVABLE

# Trailer fields that would change how a message is read or who sent it, had they come in its head (RFC 9110 §6.5.1).
NOT_IN_TRAILERS = _MATTERS | {b"trailer", b"set-cookie", b"expect"}

OUR_COOKIES = b"preevy-"  # how the names of the server's own cookies begin

Field = tuple[bytes, bytes]


def is_disguised(name: bytes) -> bool:
    """Tell whether a field, its name in lower case, is one that matters, spelt with underscores.

    CGI and WSGI turn ``-`` into ``_`` (RFC 3875 §4.1.18), so an app could not tell ``X_Forwarded_For`` from ours.
    """
    return b"_" in name and name.replace(b"_", b"-") in _MATTERS


def asked_by(told: list[Field]) -> str:
    """Return the visitor's address as a trusted proxy tells it: whom it took the request from, its last word on it.

    Empty if it does not tell; what it tells need not be an address.
    """
    for name, value in reversed(told):
        if name == b"x-forwarded-for":
            return value.rpartition(b",")[2].strip(b" \t").decode("latin-1")
    return ""


def asked_over(told: list[Field], scheme: bytes) -> bytes:
    """Return the scheme of the visitor's connection as a trusted proxy tells it; ``scheme`` if it does not tell."""
    for name, value in reversed(told):
        if name == b"x-forwarded-proto":
            return value.rpartition(b",")[2].strip(b" \t").lower()
    return scheme


def visitor_fields(peer: bytes, scheme: bytes, host: bytes, told: list[Field] | None = None) -> bytes:
    """Return the lines, each ended by CR LF, that tell a service who its visitor is.

    ``peer`` is the peer's address, ``host`` the Host field as sent. ``told`` are the
    :data:`VISITOR_FIELDS` of a trusted proxy, names in lower case: its account is kept and
    ``peer`` added to it; ``None`` for a peer that is not trusted.
    """
    port = _port(host, scheme)
    if not told:
        return b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Port: %b\r\nX-Forwarded-Host: %b\r\n" % (
            peer,
            scheme,
            port,
            host,
        )
    said = dict(told)
    chain = [value for name, value in told if name == b"x-forwarded-for"]
    lines = [
        b"X-Forwarded-For: " + b", ".join([*chain, peer]),
        b"X-Forwarded-Proto: " + said.get(b"x-forwarded-proto", scheme),
        b"X-Forwarded-Port: " + said.get(b"x-forwarded-port", port),
        b"X-Forwarded-Host: " + said.get(b"x-forwarded-host", host),
    ]
    lines += [b"Forwarded: " + value for name, value in told if name == b"forwarded"]
    if b"x-real-ip" in said:
        lines.append(b"X-Real-IP: " + said[b"x-real-ip"])
    return b"\r\n".join(lines) + b"\r\n"


def confined(lines: list[bytes], path: bytes) -> list[bytes]:
    """Return an answer's fields, each a whole line, as those of an app served below ``path``.

    Apps served by path share an origin: one must not plant cookies for another, nor a script that answers for it.
    """
    passed = []
    for line in lines:
        name, _, value = line.partition(b":")
        lowered = name.lower()
        if lowered == b"set-cookie":
            passed.append(b"%b: %b\r\n" % (name, _confined_cookie(value, path)))
        elif lowered != b"service-worker-allowed":
            passed.append(line)
    return passed


def _confined_cookie(value: bytes, path: bytes) -> bytes:
    """Return a ``Set-Cookie`` value for one host and for ``path`` only, whatever it asked for."""
    first, *attributes = value.split(b";")
    kept = [
        a.strip() for a in attributes if a.strip().partition(b"=")[0].strip().lower() not in (b"path", b"domain", b"")
    ]
    return b"; ".join([first.strip(), *kept, b"Path=" + path])


def without_our_cookies(lines: list[bytes]) -> list[bytes]:
    """Return the fields, each a whole line, without the server's own cookies: an app could be a visitor with them."""
    passed = []
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == b"cookie" and OUR_COOKIES in value:
            kept = [pair for pair in value.split(b";") if not pair.strip(b" \t\r\n").startswith(OUR_COOKIES)]
            if not kept:
                continue
            line = b"%b: %b\r\n" % (name, b";".join(kept).strip(b" \t\r\n"))
        passed.append(line)
    return passed


def apps_cookies(lines: list[bytes], base: bytes) -> list[bytes]:
    """Return an answer's fields, each a whole line, with its cookies as an app may set them.

    One for the ``base`` host or a parent of it, which all tunnels would get, becomes one for the app's host only
    (RFC 6265 §4.1.2.3); one of the server's own names is left out.
    """
    passed = []
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == b"set-cookie":
            if value.strip(b" \t\r\n=").startswith(OUR_COOKIES):  # with or without a name before it
                continue
            if b"domain" in value.lower():
                line = b"%b: %b\r\n" % (name, _host_only(value.strip(b" \t\r\n"), base))
        passed.append(line)
    return passed


def bared(lines: list[bytes]) -> list[bytes]:
    """Return those fields of an answer that tell a browser what a page elsewhere may do (Fetch §3.2.3)."""
    return [line for line in lines if line.lower().startswith((b"access-control-", b"vary:", b"allow:"))]


def _host_only(value: bytes, base: bytes) -> bytes:
    first, *attributes = value.split(b";")
    return b";".join([first, *(attribute for attribute in attributes if not _is_for_all(attribute, base))])


_PLAIN_HOST = re.compile(rb"[a-z0-9._-]{1,253}")


def _is_for_all(attribute: bytes, base: bytes) -> bool:
    key, _, domain = attribute.partition(b"=")
    domain = domain.strip(b" \t").lower().removeprefix(b".").removesuffix(b".")
    if key.strip(b" \t").lower() != b"domain":
        return False
    # A browser may read another host in what is no plain name, such as one with full-width letters.
    return _PLAIN_HOST.fullmatch(domain) is None or (b"." + base).endswith(b"." + domain)


def _port(host: bytes, scheme: bytes) -> bytes:
    _, colon, port = host.rpartition(b":")
    if colon and port.isdigit():
        return port
    return b"443" if scheme == b"https" else b"80"
