"""What a message is answered, as an authoritative name server does (RFC 1034 §4.3.2, RFC 2308, RFC 6891, RFC 8482).

Messages are put together here, around the question as it came: the library would take milliseconds over a name of a
hundred labels, and its writing of messages is for longer ones than these.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import dns.flags
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from tunnel_server_dns_challenge.query import HEADER, Query, Unfit, read
from tunnel_server_dns_challenge.zones import NS_TTL, RECORD_TTL, Zones

MAX_DATAGRAM = 512  # octets, whatever a query allows: what everybody takes, and little to throw at somebody else
MAX_MESSAGE = 65_535
_OPCODE = 0x7800
_POINTER = 0xC000  # to where a name stands already, RFC 1035 §4.1.4


class Answer(NamedTuple):
    """A message to send, and what it is counted as."""

    wire: bytes
    outcome: str


def answer(wire: bytes, zones: Zones, size: int = MAX_MESSAGE, short: bool = False) -> Answer | None:
    """Return the answer to a message in at most ``size`` octets, 512 at least; ``None`` if it gets none.

    A ``short`` one is no longer than the message, and tells whoever asks to come again by TCP. Never raises.
    """
    try:
        query = read(wire)
    except Unfit as fault:
        number, flags = struct.unpack_from("!HH", wire)
        return Answer(_header(number, flags, fault.rcode), "not_understood")
    if query is None:
        return None
    if short:
        return Answer(_message(query, dns.rcode.NOERROR, dns.flags.TC), "shortened")
    if query.edns is not None and query.edns.version:
        return Answer(_message(query, dns.rcode.BADVERS), "not_understood")
    return _of_zone(query, zones, size)


def _of_zone(query: Query, zones: Zones, size: int) -> Answer:
    apex = zones.find(query.name) if query.rdclass == dns.rdataclass.IN else None
    if apex is None or (_is_meta(query.rdtype) and query.rdtype != dns.rdatatype.ANY):
        return Answer(_message(query, dns.rcode.REFUSED), "refused")
    # The apex ends the question's name: there it stands to be pointed at.
    owner = struct.pack("!H", _POINTER | (HEADER + apex))
    found = [] if apex else _found(query.rdtype, zones)
    rcode = dns.rcode.NXDOMAIN if apex else dns.rcode.NOERROR
    answers, soa = [owner + record for record in found], owner + _soa(zones)
    whole = _message(query, rcode, dns.flags.AA, answers, [] if answers else [soa])
    if len(whole) > size:
        whole = _message(query, rcode, dns.flags.AA | dns.flags.TC)
    return Answer(whole, "answered")


def _found(rdtype: int, zones: Zones) -> list[bytes]:
    """Return the records of a type that an apex has, each without its owner."""
    if rdtype == dns.rdatatype.TXT:
        return [_record(rdtype, RECORD_TTL, text) for text in zones.texts()]
    if rdtype in (dns.rdatatype.SOA, dns.rdatatype.ANY):  # of all there is, one set will do (RFC 8482 §4.1)
        return [_soa(zones)]
    if rdtype == dns.rdatatype.NS:
        return [_record(rdtype, NS_TTL, zones.ns)]
    return []


def _soa(zones: Zones) -> bytes:
    return _record(dns.rdatatype.SOA, RECORD_TTL, zones.soa)


def _record(rdtype: int, ttl: int, data: bytes) -> bytes:
    return struct.pack("!HHIH", rdtype, dns.rdataclass.IN, ttl, len(data)) + data


def _is_meta(rdtype: int) -> bool:
    """Return whether it is no type of a record but something to do, such as a transfer (RFC 6895 §3.1)."""
    return rdtype in (0, dns.rdatatype.OPT) or 128 <= rdtype < 256


def _message(
    query: Query, rcode: int, flags: int = 0, answers: Sequence[bytes] = (), authorities: Sequence[bytes] = ()
) -> bytes:
    counts = (1, len(answers), len(authorities), 0 if query.edns is None else 1)
    opt = b"" if query.edns is None else _opt(rcode, query.edns.dnssec_ok)
    header = _header(query.id, query.flags, rcode, flags, counts)
    return b"".join([header, query.question, *answers, *authorities, opt])


def _header(
    number: int, asked: int, rcode: int, flags: int = 0, counts: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> bytes:
    repeated = asked & (_OPCODE | dns.flags.RD)
    return struct.pack("!6H", number, dns.flags.QR | repeated | flags | rcode & 15, *counts)


def _opt(rcode: int, dnssec_ok: bool) -> bytes:
    """Return the record of RFC 6891 §6.1: root, type, size that we take, rest of the error, version 0, flags."""
    return struct.pack(
        "!BHHBBHH", 0, dns.rdatatype.OPT, MAX_DATAGRAM, rcode >> 4, 0, dns.flags.DO if dnssec_ok else 0, 0
    )
