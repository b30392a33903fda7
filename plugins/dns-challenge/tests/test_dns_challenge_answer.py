"""Messages: what is answered, and how long an answer may be."""

from __future__ import annotations

import asyncio
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rrset
import dns.update
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tunnel_server_dns_challenge.answer import MAX_DATAGRAM, answer
from tunnel_server_dns_challenge.zones import Zones

ZONE = "_acme-challenge.tunnels.example.com"
VALUE = "x" * 43  # as long as a CA's


def ask(zones: Zones, name: str, rdtype: str = "TXT", rdclass: str = "IN", **options: Any) -> dns.message.Message:
    """Return the answer to a question by UDP."""
    return sent(zones, dns.message.make_query(name, rdtype, rdclass, **options))


def sent(zones: Zones, query: dns.message.Message) -> dns.message.Message:
    reply = answer(query.to_wire(), zones, MAX_DATAGRAM)
    assert reply is not None
    assert len(reply.wire) <= MAX_DATAGRAM
    response = dns.message.from_wire(reply.wire)
    assert query.is_response(response) or not response.question
    return response


def texts(response: dns.message.Message) -> set[bytes]:
    return {record.strings[0] for rrset in response.answer for record in rrset}


async def test_all_values_under_a_name_stand_until_each_is_removed(zones: Zones) -> None:
    await zones.publish(ZONE, "of-the-base")
    await zones.publish(ZONE, "of-the-wildcard")
    await zones.publish(ZONE, "of-the-wildcard")
    response = ask(zones, ZONE)

    assert texts(response) == {b"of-the-base", b"of-the-wildcard"}
    assert response.answer[0].ttl == 0
    assert response.flags & dns.flags.AA and not response.flags & dns.flags.RA

    await zones.remove(ZONE, "of-the-base")
    await zones.remove(ZONE, "never-there")
    assert texts(ask(zones, ZONE)) == {b"of-the-wildcard"}
    await zones.remove(ZONE, "of-the-wildcard")
    assert not ask(zones, ZONE).answer


@pytest.mark.parametrize("rdtype", ["A", "AAAA", "TXT", "CAA", "MX", "DS", "CNAME", "TYPE65280"])
def test_what_is_not_there_is_an_empty_answer_that_nobody_remembers(zones: Zones, rdtype: str) -> None:
    response = ask(zones, ZONE, rdtype)

    assert (response.rcode(), response.answer) == (dns.rcode.NOERROR, [])
    [soa] = response.authority
    assert (soa.name.to_text(), soa.rdtype, soa.ttl) == (f"{ZONE}.", dns.rdatatype.SOA, 0)
    assert soa[0].minimum == 0


def test_a_name_below_does_not_exist(zones: Zones) -> None:
    response = ask(zones, f"www.{ZONE}")

    assert response.rcode() == dns.rcode.NXDOMAIN
    assert response.authority[0].rdtype == dns.rdatatype.SOA
    assert response.flags & dns.flags.AA


def test_the_zone_names_its_server(zones: Zones) -> None:
    [ns] = ask(zones, ZONE, "NS").answer
    [soa] = ask(zones, ZONE, "SOA").answer

    assert [record.target.to_text() for record in ns] == ["tunnels.example.com."]
    assert (soa[0].mname.to_text(), soa[0].rname.to_text()) == (
        "tunnels.example.com.",
        "hostmaster.tunnels.example.com.",
    )


async def test_a_question_for_anything_gets_one_set(zones: Zones) -> None:
    for number in range(20):
        await zones.publish(ZONE, f"{number}{VALUE}")

    [rrset] = ask(zones, ZONE, "ANY").answer

    assert (rrset.rdtype, len(rrset)) == (dns.rdatatype.SOA, 1)


@pytest.mark.parametrize(
    ("name", "rdtype", "rdclass"),
    [
        ("tunnels.example.com", "A", "IN"),
        ("example.com", "NS", "IN"),
        ("x" + ZONE, "TXT", "IN"),
        (".", "NS", "IN"),
        ("version.bind", "TXT", "CH"),
        (ZONE, "TXT", "CH"),
        (ZONE, "TXT", "ANY"),
        (ZONE, "AXFR", "IN"),
        (ZONE, "IXFR", "IN"),
        (ZONE, "TSIG", "IN"),
        (ZONE, "OPT", "IN"),
    ],
)
def test_all_else_is_refused(zones: Zones, name: str, rdtype: str, rdclass: str) -> None:
    response = ask(zones, name, rdtype, rdclass)

    assert response.rcode() == dns.rcode.REFUSED
    assert not response.answer and not response.authority and not response.flags & dns.flags.AA


async def test_the_case_of_a_question_is_kept(zones: Zones) -> None:
    await zones.publish(ZONE, VALUE)
    name = "_aCme-chALLenge.TunnelS.exAMPle.Com."

    response = ask(zones, name)

    assert response.question[0].name.to_text() == response.answer[0].name.to_text() == name


async def test_a_host_elsewhere_is_answered_for_once_it_is_to_be_proved(zones: Zones) -> None:
    other = "_acme-challenge.www.example.net"
    assert ask(zones, other).rcode() == dns.rcode.REFUSED

    await zones.publish(other, VALUE)

    assert texts(ask(zones, other)) == {VALUE.encode()}
    assert texts(ask(zones, ZONE)) == {VALUE.encode()}  # so that an alias may lead here


async def test_a_host_below_a_zone_has_a_zone_of_its_own() -> None:
    zones = Zones(["acme.example.net"], "tunnels.example.com")
    name = "_acme-challenge.a.acme.example.net"

    await zones.publish(name, VALUE)

    assert texts(ask(zones, name)) == {VALUE.encode()}
    assert ask(zones, f"b.{name}").authority[0].name.to_text() == f"{name}."


async def test_a_value_that_nobody_asked_for_is_a_warning(zones: Zones) -> None:
    with capture_logs() as logs:
        await zones.publish(ZONE, "asked")
        ask(zones, ZONE)
        await zones.remove(ZONE, "asked")
        await zones.publish(ZONE, "not-asked-for")
        await zones.remove(ZONE, "not-asked-for")

    [told] = [entry for entry in logs if entry["event"] == "dns-challenge.not-asked"]
    assert told["log_level"] == "warning"
    assert told["record"] == f"{ZONE}. NS tunnels.example.com."


# EDNS


def test_edns_is_answered_and_absent_where_it_was_not_asked_for(zones: Zones) -> None:
    response = ask(zones, ZONE, use_edns=0, want_dnssec=True, payload=4096)

    assert (response.edns, response.payload) == (0, MAX_DATAGRAM)
    assert response.ednsflags & dns.flags.DO
    assert ask(zones, ZONE, use_edns=0).ednsflags == 0
    assert ask(zones, ZONE).edns == -1


def test_another_version_of_edns_is_told_ours(zones: Zones) -> None:
    response = ask(zones, ZONE, use_edns=1)

    assert (response.rcode(), response.edns, response.answer) == (dns.rcode.BADVERS, 0, [])


@pytest.mark.parametrize(
    "option",
    [
        dns.edns.GenericOption(dns.edns.OptionType.PADDING, bytes(100)),
        dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678"),
        dns.edns.GenericOption(65001, b"?"),
    ],
)
def test_options_change_nothing(zones: Zones, option: dns.edns.Option) -> None:
    plain, with_option = ask(zones, ZONE, use_edns=0), ask(zones, ZONE, use_edns=0, options=[option])

    assert with_option.options == ()
    assert len(with_option.to_wire()) == len(plain.to_wire())


# Messages that are not as they should be


@pytest.mark.parametrize("opcode", [1, 2, 3, 4, 6, 15])
def test_other_opcodes_are_not_implemented(zones: Zones, opcode: int) -> None:
    query = bytearray(dns.message.make_query(ZONE, "TXT").to_wire())
    query[2] = opcode << 3

    reply = answer(bytes(query), zones)

    assert reply is not None
    assert reply.wire == query[:2] + bytes([0x80 | opcode << 3, dns.rcode.NOTIMP]) + bytes(8)


def test_an_update_is_not_implemented(zones: Zones) -> None:
    update = dns.update.UpdateMessage(ZONE)
    update.add("@", 0, "TXT", "mine")

    reply = answer(update.to_wire(), zones)

    assert reply is not None and reply.wire[3] & 15 == dns.rcode.NOTIMP
    assert not ask(zones, ZONE).answer


def two_questions(query: dns.message.Message) -> None:
    query.question *= 2


def no_question(query: dns.message.Message) -> None:
    query.question.clear()


def an_answer(query: dns.message.Message) -> None:
    query.answer.append(dns.rrset.from_text(f"{ZONE}.", 0, "IN", "TXT", "a"))


def an_authority(query: dns.message.Message) -> None:
    query.authority.append(dns.rrset.from_text(f"{ZONE}.", 0, "IN", "TXT", "a"))


def another_record(query: dns.message.Message) -> None:
    query.additional.append(dns.rrset.from_text(f"{ZONE}.", 0, "IN", "TXT", "a"))


@pytest.mark.parametrize("spoil", [two_questions, no_question, an_answer, an_authority, another_record])
def test_a_message_of_another_shape_is_a_format_error(zones: Zones, spoil: Any) -> None:
    query = dns.message.make_query(ZONE, "TXT")
    spoil(query)

    assert sent(zones, query).rcode() == dns.rcode.FORMERR


def test_a_format_error_is_a_header_alone(zones: Zones) -> None:
    query = dns.message.make_query(ZONE, "TXT").to_wire()

    pointer = b"\0\0" + query[2:12] + b"\xc0\0\0\x10\0\1"
    for broken in (query[:-1], query + b"\0", query[:12] + b"\xc0\x0c\0\x10\0\1", query[:12] + b"\x80" * 20, pointer):
        reply = answer(broken, zones)
        assert reply is not None and reply.outcome == "not_understood"
        assert reply.wire == broken[:2] + bytes([0x81, dns.rcode.FORMERR]) + bytes(8)


def test_responses_and_scraps_get_no_answer(zones: Zones) -> None:
    query = dns.message.make_query(ZONE, "TXT")
    response = dns.message.make_response(query)

    assert answer(response.to_wire(), zones) is None
    assert answer(query.to_wire()[:11], zones) is None
    assert answer(b"", zones) is None


# How long an answer may be


async def test_what_is_too_long_for_a_datagram_is_cut_and_whole_by_tcp(zones: Zones) -> None:
    for number in range(40):
        await zones.publish(ZONE, f"{number:02}{VALUE}")
    query = dns.message.make_query(ZONE, "TXT", use_edns=0, payload=65535)

    short, whole = answer(query.to_wire(), zones, MAX_DATAGRAM), answer(query.to_wire(), zones)

    assert short is not None and whole is not None
    assert len(short.wire) <= MAX_DATAGRAM and dns.message.from_wire(short.wire).flags & dns.flags.TC
    assert len(texts(dns.message.from_wire(whole.wire))) == 40


names = st.lists(st.binary(min_size=1, max_size=63), max_size=4).map(lambda labels: dns.name.Name([*labels, b""]))
questions = st.builds(
    lambda name, rdtype, rdclass, edns, number, dnssec: dns.message.make_query(
        name, rdtype, rdclass, use_edns=edns, id=number, want_dnssec=dnssec and edns >= 0
    ).to_wire(),
    st.one_of(names.filter(lambda name: len(name.to_wire()) < 200), st.sampled_from([dns.name.from_text(ZONE)])),
    st.integers(0, 65535).filter(lambda rdtype: rdtype != dns.rdatatype.NONE),
    st.sampled_from([1, 1, 3, 255, 4660]),
    st.sampled_from([-1, 0, 0, 1, 255]),
    st.integers(0, 65535),
    st.booleans(),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    wire = bytearray(draw(questions))
    for _ in range(draw(st.integers(0, 6))):
        wire[draw(st.integers(0, len(wire) - 1))] = draw(st.integers(0, 255))
    return bytes(wire[: draw(st.integers(0, len(wire)))]) + draw(st.binary(max_size=30))


_FULL = Zones([ZONE, "_acme-challenge." + "y" * 60 + ".example.net"], "tunnels.example.com")


@pytest.fixture(autouse=True, scope="module")
def _fill() -> None:
    for number in range(8):
        asyncio.run(_FULL.publish(ZONE, f"{number}{VALUE}"))


@given(wire=st.one_of(st.binary(max_size=600), questions, damaged()), short=st.booleans())
@example(wire=b"\0\0\0\0\0\1\0\0\0\0\0\0" + b"\xc0\x00" * 250, short=False)
@example(wire=b"\0\0\0\0\0\1\0\0\0\0\0\0" + b"\x01a" * 127 + b"\0\0\x10\0\1", short=False)
def test_no_message_is_too_much(wire: bytes, short: bool) -> None:
    reply = answer(wire, _FULL, MAX_DATAGRAM, short)

    if reply is None:
        assert len(wire) < 12 or wire[2] & 0x80
        return
    assert len(reply.wire) <= MAX_DATAGRAM
    assert reply.wire[:2] == wire[:2] and reply.wire[2] & 0x80
    if short or reply.outcome == "not_understood":
        assert len(reply.wire) <= len(wire)
    dns.message.from_wire(reply.wire)  # which anybody can read


@given(wire=questions)
def test_every_sound_question_is_understood(wire: bytes) -> None:
    reply = answer(wire, _FULL, MAX_DATAGRAM)

    assert reply is not None
    response = dns.message.from_wire(reply.wire)
    assert dns.message.from_wire(wire, question_only=True).question == response.question
    assert response.rcode() != dns.rcode.FORMERR


def test_hostile_types_leave_nothing_behind_in_the_library(zones: Zones) -> None:
    before = len(dns.rdata._rdata_classes)  # type: ignore[attr-defined]
    for rdtype in range(300, 400):
        ask(zones, ZONE, f"TYPE{rdtype}", "CLASS99")
        query = dns.message.make_query(ZONE, "TXT").to_wire()
        record = b"\0" + rdtype.to_bytes(2, "big") + b"\0\x63" + bytes(6)
        answer(query[:11] + b"\1" + query[12:] + record, zones)

    assert len(dns.rdata._rdata_classes) == before  # type: ignore[attr-defined]
