"""Whether a client or its forward is taken: what a policy answers, and how several answers are one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Certificate:
    """An OpenSSH user certificate that a client logged in with (OpenSSH's PROTOCOL.certkeys).

    Its signature, its times and its ``source-address`` were checked; whether ``authority``, the public key that
    signed it in SSH wire format, is one to trust is for a policy to say. ``valid_before`` is in seconds since the
    epoch, infinite if it never ends. ``principals`` is empty if it names none.
    """

    authority: bytes
    key_id: str
    serial: int
    principals: tuple[str, ...]
    valid_after: float
    valid_before: float
    options: Mapping[str, object] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Accept:
    """The policy takes the client or the forward.

    ``attributes`` are kept with the client, for this plugin and others to read; a name should begin with that of the
    plugin and a dot. ``expires_at``, in seconds since the epoch, is when a client is hung up on.
    """

    attributes: Mapping[str, str] = field(default_factory=dict, compare=False)
    expires_at: float = inf


@dataclass(frozen=True, slots=True)
class Reject:
    """The policy refuses the client or the forward; the ``reason`` is shown to the client, one line at most."""

    reason: str


ACCEPT = Accept()
NOBODY = Reject("no policy of this server accepts this key")


def admit(answers: Iterable[Accept | Reject | None]) -> Accept | Reject:
    """Return the one answer that ``answers`` make; ``None`` is that of a policy without an opinion.

    Any :class:`Reject` wins, the first of several. It takes one :class:`Accept` at least. Attributes are joined, of a
    name given twice the first counts; the earliest ``expires_at`` does.
    """
    attributes: dict[str, str] = {}
    expires_at, accepted = inf, False
    for answer in answers:
        if isinstance(answer, Reject):
            return answer
        if answer is not None:
            accepted = True
            attributes = {**answer.attributes, **attributes}
            expires_at = min(expires_at, answer.expires_at)
    return Accept(MappingProxyType(attributes), expires_at) if accepted else NOBODY
