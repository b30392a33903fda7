"""Where things are: the login page, where to go back to, and where a session's cookie is sent."""

from __future__ import annotations

import re
import time
from email.utils import formatdate
from ipaddress import ip_address
from urllib.parse import quote

from tunnel_server import BaseUrl
from tunnel_server.house.private_tunnels.credentials import TOKEN_COOKIE
from tunnel_server.house.private_tunnels.sessions import Clock, Session

HINT = "_preevy_auth_hint"
CARRIED = "_preevy_session"  # a ticket from the login page, or KEPT
KEPT = "set"  # the cookie should be there by now
MAX_PLACE = 256  # characters
MAX_DEPTH = 16  # parts of a path from which a spent cookie is taken away
MAX_RETURN = 4096  # characters; three times as many when they are escaped in a URL

_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
_ELSEWHERE = re.compile(r"^/(?:/|\\|%2f|%5c)+", re.IGNORECASE)  # what a browser may take for another host
_IN_URL = "".join(chr(code) for code in range(33, 127) if chr(code) not in '"<>\\^`{|}')


class NotAPath(ValueError):
    """What to return to is not a path on the tunnel's own host."""


class Places:
    """The addresses of one server. With ``per_host`` every host has sessions of its own.

    So it is too where no cookie can be shared: browsers refuse the attribute ``Domain`` for IP addresses and host
    names of one label (RFC 6265bis §5.7), and tunnels on whole host names are not under the base host at all.
    """

    def __init__(self, base: BaseUrl, *, per_host: bool = False, clock: Clock = time.time) -> None:
        self._base = base
        self._shares = not per_host and _can_share(base.hostname)
        self._clock = clock

    def host(self, field: str) -> str:
        """Return the host of a request's Host field, in lower case and without a port."""
        host = field.lower()
        if not host.endswith("]"):
            host = host.rpartition(":")[0] if ":" in host else host
        return host.removesuffix(".")

    def name(self, host: str) -> str:
        """Return what a tunnel on ``host`` is called: its label under the base host, or the whole host name."""
        suffix = "." + self._base.hostname
        return host.removesuffix(suffix) if host.endswith(suffix) else host

    def tunnel_host(self, name: str) -> str:
        """Return the host of the tunnel that is called ``name``."""
        return self._base.tunnel_host(name)

    def scope(self, host: str) -> str:
        """Return the scope of sessions on ``host``: ``""`` if its cookie is that of the base host, else the host."""
        return "" if self._shares and host.endswith("." + self._base.hostname) else host

    def page(self, host: str, path: str) -> str:
        """Return the URL of ``path``, which begins with ``/``, on a host of ours."""
        return f"{self._base.tunnel_url(self.name(host))}{_escaped(path)[1:]}"

    def login(self, name: str, path: str, page: str = "auth") -> str:
        """Return the URL of the login page that brings a visitor back to ``path`` on the tunnel of ``name``.

        A path that the page would not take becomes one that it does.
        """
        back = _ELSEWHERE.sub("/", _escaped(path))
        if len(back) > MAX_RETURN:
            back = "/"
        where = f"env={quote(name, safe='')}&returnPath={quote(back, safe='')}"
        return f"{self._base.tunnel_url(page)}login?{where}"

    def session_cookie(self, session: Session, value: str, thumbprint: str, host: str) -> str:
        """Return a Set-Cookie for a session's ``value`` on ``host`` (RFC 6265 §4.1)."""
        age = max(0, session.expires_at - int(self._clock()))
        domain = "" if self.scope(host) else f"; Domain={self._base.hostname}"
        return (
            f"{cookie_name(thumbprint)}={value}; Path=/{domain}; Max-Age={age}; "
            f"Expires={formatdate(session.expires_at, usegmt=True)}; Secure; HttpOnly; SameSite=None"
        )

    def spent_token_cookies(self, host: str, path: str) -> list[str]:
        """Return Set-Cookies that take away the token of a login service: that of the base host, if it is above.

        A page elsewhere may have put it below any part of ``path``, so it is taken away from each.
        """
        is_below = host.endswith("." + self._base.hostname) and _can_share(self._base.hostname)
        domain = f"; Domain={self._base.hostname}" if is_below else ""
        places = ["/"]
        at = ""
        for part in of_head(path).partition("?")[0].rstrip("/").split("/")[1:MAX_DEPTH]:
            at += "/" + part
            if ";" in part or len(at) > MAX_PLACE:  # which would end the attribute, or the browser's patience
                break
            places += [at, at + "/"]
        return [f"{TOKEN_COOKIE}=; Path={place}{domain}; Max-Age=0; Secure" for place in places]


def cookie_name(thumbprint: str) -> str:
    """Return the name of the cookie with the sessions of a profile."""
    return f"preevy-{thumbprint}"


def parameter(path: str, name: str) -> str | None:
    """Return the value of a query parameter, the first of its name, as it stands."""
    for part in path.partition("?")[2].partition("#")[0].split("&"):
        key, _, value = part.partition("=")
        if key == name:
            return value
    return None


def without(path: str, *names: str) -> str:
    """Return ``path`` without the query parameters of these names; all else stays as it stands."""
    start, mark, query = path.partition("?")
    if not mark or not any(name in query for name in names):
        return path
    left = [part for part in query.split("&") if part.partition("=")[0] not in names]
    return f"{start}?{'&'.join(left)}" if left else start


def with_parameter(path: str, name: str, value: str) -> str:
    """Return ``path`` with one more query parameter, before a fragment if it has one."""
    start, mark, fragment = path.partition("#")
    return f"{start}{'&' if '?' in start else '?'}{name}={value}{mark}{fragment}"


def return_path(text: str) -> str:
    """Return ``text`` if it is a path, with query or without, that leads to no other host in any browser.

    Raises:
        NotAPath: it is not, or longer than ``MAX_RETURN``.
    """
    if len(text) > MAX_RETURN or _CONTROL.search(text) or not text.startswith("/") or _ELSEWHERE.match(text):
        raise NotAPath
    return text


def of_head(path: str) -> str:
    """Return the target of a request head, which may have any octets (RFC 9112 §3), in ASCII."""
    return quote(path, safe=_IN_URL, encoding="latin-1", errors="replace")


def _escaped(path: str) -> str:
    return quote(path, safe=_IN_URL, errors="replace") if path.startswith("/") else "/"


def _can_share(hostname: str) -> bool:
    if "." not in hostname or hostname.startswith("["):
        return False
    try:
        ip_address(hostname)
    except ValueError:
        return True
    return False
