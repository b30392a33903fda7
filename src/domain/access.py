"""Whether a visitor's request may pass: what a policy answers, and how several answers are one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from tunnel_server.domain.visit import FinishedRequest


@dataclass(frozen=True, slots=True)
class Allow:
    """The policy lets the request pass.

    ``hidden`` are names of header fields, in lower case, that the service must not see: a token that was meant for
    the policy. ``finished`` is called once the request ended, exactly once, however it did, also when another policy
    refused it; it must be quick. With ``bare`` the visitor gets of the answer the status and the fields that tell a
    browser what a page elsewhere may do (CORS), and no body.
    """

    hidden: frozenset[str] = frozenset()
    finished: Callable[[FinishedRequest], None] | None = None
    bare: bool = False


@dataclass(frozen=True, slots=True)
class Abstain:
    """The policy has no opinion, as ``None``, but ``finished`` is called once the request ended, as with Allow."""

    finished: Callable[[FinishedRequest], None]


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request ends here, with an HTTP ``status`` from 400 to 599 and a ``reason`` fit for the visitor.

    ``headers`` are further fields of the answer, such as ``("Retry-After", "5")``.
    """

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Challenge:
    """The visitor is asked for credentials: 401 with ``challenge`` as its WWW-Authenticate (RFC 9110 §11.6.1)."""

    challenge: str
    reason: str = "This tunnel asks for credentials."


@dataclass(frozen=True, slots=True)
class Login:
    """The visitor is sent to ``location``, an absolute URL, with a 307; ``cookies`` are whole Set-Cookie values."""

    location: str
    cookies: tuple[str, ...] = ()


Answer: TypeAlias = Allow | Abstain | Refuse | Challenge | Login
Verdict: TypeAlias = Allow | Refuse | Challenge | Login

ALLOW = Allow()
NO_SIGN_IN = Refuse(403, "This tunnel is private, and this server has no sign-in.")


def decide(answers: Iterable[Answer | None], *, private: bool) -> Verdict:
    """Return the one answer that ``answers`` make; ``None`` is that of a policy without an opinion.

    Any that keeps the visitor out wins: the first :class:`Refuse`, else the first :class:`Challenge`, else the first
    :class:`Login`. A ``private`` tunnel needs an :class:`Allow`; without one it is refused.
    """
    allowed: list[Allow] = []
    worst: Refuse | Challenge | Login | None = None
    for answer in answers:
        if answer is None or isinstance(answer, Abstain):
            continue
        if isinstance(answer, Allow):
            allowed.append(answer)
        elif worst is None or _SEVERITY[type(answer)] > _SEVERITY[type(worst)]:
            worst = answer
    if worst is not None:
        return worst
    if private and not allowed:
        return NO_SIGN_IN
    if len(allowed) == 1:
        return allowed[0]
    return _joined(allowed) if allowed else ALLOW


_SEVERITY: dict[type[Refuse | Challenge | Login], int] = {Refuse: 2, Challenge: 1, Login: 0}


def _joined(allowed: list[Allow]) -> Allow:
    """Return one that hides what any hides, and is bare if any is; whoever asked keeps who hears of the end."""
    hidden = frozenset[str]().union(*(answer.hidden for answer in allowed))
    return Allow(hidden, bare=any(answer.bare for answer in allowed))
