"""What the relay itself answers: JSON, a small page, or text, as the visitor accepts."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, replace
from http import HTTPStatus

from tunnel_server.domain.access import Challenge, Login, Refuse
from tunnel_server.domain.metrics import Outcome
from tunnel_server.domain.negotiation import Answer, preferred

NO_TUNNEL = "No active tunnel found"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request was not passed on. ``message`` is the short text; ``title`` and ``advice`` are for people."""

    status: int
    outcome: Outcome
    message: str
    title: str
    advice: str
    headers: tuple[tuple[str, str], ...] = ()


def unknown_tunnel(host: str) -> Problem:
    """No tunnel of that name has been seen."""
    return Problem(
        502,
        Outcome.NO_TUNNEL,
        NO_TUNNEL,
        "There is no tunnel of this name",
        f"Nobody publishes {host} here. Check the address for typing errors.",
    )


def gone_tunnel(host: str) -> Problem:
    """The name was published until a while ago."""
    return Problem(
        502,
        Outcome.NO_TUNNEL,
        NO_TUNNEL,
        "This tunnel is gone",
        f"{host} was published here, but its owner is no longer connected. It comes back when they reconnect.",
    )


def unreachable(detail: str) -> Problem:
    """The tunnel is there, the service behind it is not."""
    return Problem(
        502,
        Outcome.UNREACHABLE,
        f"The service behind the tunnel does not answer: {detail}",
        "The app behind this tunnel does not answer",
        "The tunnel is connected, but the service at its other end refused or broke the connection. "
        "If it is yours: is it running, and on the port that you forwarded?",
    )


def timed_out(seconds: float) -> Problem:
    """The service took the request and said nothing."""
    return Problem(
        504,
        Outcome.TIMEOUT,
        f"The service behind the tunnel did not answer within {seconds:g} s",
        "The app behind this tunnel takes too long",
        "The tunnel is connected and the app took the request, but it sent no answer in time.",
    )


def overloaded(retry_after: int) -> Problem:
    """Too many requests are under way on one tunnel."""
    return Problem(
        503,
        Outcome.OVERLOADED,
        "Too many requests at once for this tunnel",
        "This tunnel is busy",
        "More requests are under way than it takes at once. Try again in a moment.",
        (("Retry-After", str(retry_after)),),
    )


def refused(status: int, reason: str) -> Problem:
    """The access rules keep this visitor out."""
    return Problem(status, Outcome.REFUSED, reason, "This tunnel is not open to you", reason)


def bad_request(status: int, reason: str) -> Problem:
    """The visitor's message is not one that can be read in one way only."""
    return Problem(status, Outcome.BAD_REQUEST, f"Bad request: {reason}", "This request cannot be read", reason)


def moved(location: str, *, for_good: bool = False) -> Problem:
    """Another address serves this; 307 and, for good, 308 keep the method."""
    status = 308 if for_good else 307
    return Problem(status, Outcome.REFUSED, f"See {location}", "Moved", location, (("Location", location),))


def by_policy(answer: Refuse | Challenge | Login) -> Problem:
    """What the tunnel's policies answer instead of its service."""
    match answer:
        case Refuse(status, reason, headers):
            return replace(refused(status, reason), headers=headers)
        case Challenge(challenge, reason):
            return replace(refused(401, reason), headers=(("WWW-Authenticate", challenge),))
        case Login(location, cookies):
            return replace(moved(location), headers=(("Location", location), *(("Set-Cookie", c) for c in cookies)))


def plugin_failed() -> Problem:
    """A plugin that changes requests did not."""
    return Problem(
        502,
        Outcome.REFUSED,
        "The server could not pass the request on",
        "The server could not pass the request on",
        "A plugin of this server failed. Its operator finds the reason in the log.",
    )


def misdirected(host: str) -> Problem:
    """The connection's certificate is not for the host asked for (RFC 9110 §15.5.20): another connection is wanted."""
    return Problem(
        421,
        Outcome.BAD_REQUEST,
        f"Misdirected request: this connection is not for {host}",
        "This connection is for another host",
        f"Its certificate is not the one of {host}. A browser opens another connection by itself.",
    )


def wants_tls() -> Problem:
    """Plain HTTP came to the TLS port."""
    return bad_request(400, "this port speaks HTTPS, and this was HTTP")


def answer_bytes(problem: Problem, accept: bytes, with_body: bool, more: bytes = b"") -> bytes:
    """Return the whole answer; it ends the connection. Without a body it still tells the body's length.

    ``more`` are further fields, each a whole line.
    """
    match preferred(accept.decode("latin-1")):
        case Answer.JSON:
            kind, text = "application/json", json.dumps({"message": problem.message})
        case Answer.HTML:
            kind, text = "text/html; charset=utf-8", _page(problem)
        case Answer.TEXT:
            kind, text = "text/plain; charset=utf-8", problem.message + "\n"
    body = text.encode()
    lines = [
        f"HTTP/1.1 {problem.status} {_phrase(problem.status)}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'",
        *(f"{name}: {value}" for name, value in problem.headers),
        "Connection: close\r\n",
    ]
    head = "\r\n".join(lines).encode("latin-1") + more + b"\r\n"
    return head + body if with_body else head


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # a policy may answer one that has no name
        return "Refused"


def _page(problem: Problem) -> str:
    title, advice = html.escape(problem.title), html.escape(problem.advice)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width">'
        "<style>body{font:1.1rem/1.6 system-ui,sans-serif;max-width:38rem;margin:15vh auto;padding:0 1rem}"
        "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}}small{opacity:.6}</style>"
        f"<h1>{title}</h1><p>{advice}</p><small>{problem.status} · tunnel server</small></html>\n"
    )
