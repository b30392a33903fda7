"""Reading a query.

By hand, with the library's parser of wire format, and not as one of its messages: it would load a module for each
type of record that a hostile message names, and remember every type and class for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

import dns.exception
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.wire

HEADER = 12  # octets, RFC 1035 §4.1.1
_DNSSEC_OK = 0x8000


class Unfit(Exception):
    """A message that gets an error for its answer, ``rcode``."""

    def __init__(self, rcode: dns.rcode.Rcode) -> None:
        super().__init__(rcode.name)
        self.rcode = rcode


@dataclass(frozen=True, slots=True)
class Edns:
    """What a query says in its OPT record that matters here."""

    version: int
    dnssec_ok: bool


@dataclass(frozen=True, slots=True)
class Query:
    """One question; ``question`` is it as it came, and ``name`` what it begins with, in wire format."""

    id: int
    flags: int
    question: bytes
    name: bytes
    rdtype: int
    rdclass: int
    edns: Edns | None


def read(wire: bytes) -> Query | None:
    """Return what a message asks, ``None`` if it asks nothing: it is a response, or shorter than a header.

    Raises:
        Unfit: FORMERR, also for any record beside the question and one OPT; NOTIMP for any opcode but QUERY.
    """
    if len(wire) < HEADER or wire[2] & 0x80:
        return None
    if dns.opcode.from_flags(int.from_bytes(wire[2:4], "big")) != dns.opcode.QUERY:
        raise Unfit(dns.rcode.NOTIMP)
    try:
        return _question(dns.wire.Parser(wire))
    except dns.exception.DNSException:
        raise Unfit(dns.rcode.FORMERR) from None


def _question(parser: dns.wire.Parser) -> Query:
    number, flags, questions, answers, authorities, additional = parser.get_struct("!6H")
    if questions != 1 or answers or authorities or additional > 1:
        raise Unfit(dns.rcode.FORMERR)
    name = parser.get_name()
    length = parser.current - HEADER
    rdtype, rdclass = parser.get_struct("!HH")
    question = parser.wire[HEADER : parser.current]
    edns = _opt(parser) if additional else None
    if parser.remaining() or length != _wire_length(name):  # the latter: a name with pointers
        raise Unfit(dns.rcode.FORMERR)
    return Query(number, flags, question, question[:length], rdtype, rdclass, edns)


def _opt(parser: dns.wire.Parser) -> Edns:
    owner, rdtype, _payload, _error, version, flags, length = parser.get_struct("!BHHBBHH")
    if owner or rdtype != dns.rdatatype.OPT:
        raise Unfit(dns.rcode.FORMERR)
    parser.get_bytes(length)
    return Edns(version, bool(flags & _DNSSEC_OK))


def _wire_length(name: dns.name.Name) -> int:
    """Return the octets of a name that is written out."""
    return sum(len(label) + 1 for label in name.labels)
