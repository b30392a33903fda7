"""The plugin on real sockets, asked by dig and by peers who mean no good."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.query
import pytest
from rig import need, until
from structlog.testing import capture_logs
from tunnel_server_dns_challenge.answer import MAX_DATAGRAM
from tunnel_server_dns_challenge.rates import BURST, PER_SECOND
from tunnel_server_dns_challenge.tcp import MAX_CONNECTIONS, MAX_OF_NETWORK

ZONE = "_acme-challenge.tunnels.example.com"
QUERY = dns.message.make_query(ZONE, "TXT")


async def dig(port: int, *words: str, address: str = "127.0.0.1") -> str:
    """Return what dig prints, without its comments unless they are asked for."""
    command = [need("dig"), f"@{address}", "-p", str(port), "+time=2", "+tries=1", *words]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(10):
        shown, _ = await process.communicate()
    return shown.decode()


async def framed(reader: asyncio.StreamReader) -> dns.message.Message:
    async with asyncio.timeout(5):
        return dns.message.from_wire(await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")))


def frame(query: dns.message.Message = QUERY) -> bytes:
    wire = query.to_wire()
    return len(wire).to_bytes(2, "big") + wire


async def closed(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(4):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
async def test_dig_finds_all_values(make_plugin: Callable[..., Any], transport: str) -> None:
    running = await make_plugin()
    await running.dns.publish(ZONE, "one")
    await running.dns.publish(ZONE, "two")

    shown = await dig(running.port, transport, "+norecurse", ZONE, "TXT")

    assert "status: NOERROR" in shown and "flags: qr aa;" in shown and "WARNING" not in shown
    assert f'{ZONE}. 0 IN TXT "one"' in " ".join(shown.split())
    assert f'{ZONE}. 0 IN TXT "two"' in " ".join(shown.split())
    assert running.counted("tcp" if transport == "+tcp" else "udp", "answered") == 1


async def test_dig_goes_on_by_tcp_where_a_datagram_is_too_small(make_plugin: Callable[..., Any]) -> None:
    running = await make_plugin()
    for number in range(40):
        await running.dns.publish(ZONE, f"{number:043}")

    shown = await dig(running.port, ZONE, "TXT", "+short")

    assert len([line for line in shown.splitlines() if line.startswith('"')]) == 40
    assert (running.counted("udp", "answered"), running.counted("tcp", "answered")) == (1, 1)


async def test_dig_is_refused_transfers_and_other_names(make_plugin: Callable[..., Any]) -> None:
    running = await make_plugin()

    assert "Transfer failed" in await dig(running.port, ZONE, "AXFR")
    assert "status: REFUSED" in await dig(running.port, "tunnels.example.com", "A")
    assert "status: BADVERS" in await dig(running.port, "+edns=1", "+noednsnegotiation", ZONE, "TXT")
    assert "status: NOTIMP" in await dig(running.port, "+opcode=notify", ZONE, "SOA")


async def test_an_answer_comes_from_the_address_that_was_asked(make_plugin: Callable[..., Any]) -> None:
    running = await make_plugin(listen_host="")

    for address in ("127.0.0.1", "127.0.0.77"):
        assert "status: NOERROR" in await dig(running.port, ZONE, "TXT", address=address)


async def test_ipv6_is_answered_where_there_is_any(make_plugin: Callable[..., Any]) -> None:
    running = await make_plugin(listen_host="")
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")

    for transport in ("+notcp", "+tcp"):
        assert "status: NOERROR" in await dig(running.port, ZONE, "TXT", transport, address="::1")


async def test_several_zones_and_another_name_of_the_server(make_plugin: Callable[..., Any]) -> None:
    other = "_acme-challenge.www.example.net"

    with capture_logs() as logs:
        running = await make_plugin(zones=(other,), ns_name="ns.example.net")

    assert await dig(running.port, other, "NS", "+short") == "ns.example.net.\n"
    [told] = [entry for entry in logs if entry["event"] == "dns-challenge.listening"]
    assert told["records_needed"] == f"{ZONE}. NS ns.example.net., {other}. NS ns.example.net."


async def test_a_port_that_is_taken_stops_the_start_and_nothing_stays_open(make_plugin: Callable[..., Any]) -> None:
    running = await make_plugin()

    with pytest.raises(OSError, match=f"cannot answer on port {running.port}: Address already in use"):
        await make_plugin(port=running.port)


@pytest.mark.parametrize("base", ["http://192.0.2.1", "http://[2001:db8::1]:3000"])
async def test_an_address_has_no_challenge(make_plugin: Callable[..., Any], base: str) -> None:
    with pytest.raises(ValueError, match="BASE_URL"):
        await make_plugin(base)


# Who means no good


async def test_a_flood_gets_short_answers_then_none_and_others_still_get_theirs(
    make_plugin: Callable[..., Any],
) -> None:
    running = await make_plugin(listen_host="")
    began = time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
        flood.connect(("127.0.0.1", running.port))
        for _ in range(10):
            for _ in range(100):
                flood.send(QUERY.to_wire())
            await asyncio.sleep(0)
        await until(lambda: running.counted("udp", "dropped"))
        most = BURST + PER_SECOND * (time.monotonic() - began)

        assert BURST <= running.counted("udp", "answered") <= most
        assert BURST <= running.counted("udp", "shortened") <= most
        other = await asyncio.to_thread(
            dns.query.udp, QUERY, "127.0.1.1", port=running.port, source="127.0.1.1", timeout=5
        )
    assert not other.flags & dns.flags.TC


async def test_rubbish_does_not_stop_it(make_plugin: Callable[..., Any]) -> None:
    running = await make_plugin()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.connect(("127.0.0.1", running.port))
        for size in (0, 1, 11, 12, 100, 511, 512, 513, 5000):
            peer.send(bytes(size))
    await until(lambda: running.counted("udp", "dropped") + running.counted("udp", "not_understood") == 9)

    assert running.counted("udp", "dropped") == 5
    assert "status: NOERROR" in await dig(running.port, ZONE, "TXT")


async def test_a_datagram_longer_than_any_question_is_dropped_whatever_it_begins_with(
    make_plugin: Callable[..., Any],
) -> None:
    running = await make_plugin()
    bare = dns.message.make_query(ZONE, "TXT", use_edns=0, options=[dns.edns.GenericOption(65001, b"")])
    padding = bytes(MAX_DATAGRAM - len(bare.to_wire()))
    longest = dns.message.make_query(ZONE, "TXT", use_edns=0, options=[dns.edns.GenericOption(65001, padding)])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.connect(("127.0.0.1", running.port))
        peer.send(longest.to_wire())
        peer.send(longest.to_wire() + b"\0")
    await until(lambda: running.counted("udp", "dropped"))

    assert running.counted("udp", "answered") == 1


async def test_a_connection_carries_several_queries_also_ahead_of_their_answers(
    make_plugin: Callable[..., Any],
) -> None:
    running = await make_plugin()
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    queries = [dns.message.make_query(ZONE, "SOA") for _ in range(5)]

    writer.write(b"".join(frame(query) for query in queries))
    writer.write_eof()

    assert [(await framed(reader)).id for _ in queries] == [query.id for query in queries]
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("sent", [b"\xff\xff", b"\0\0", b"\0\x02ab", b"\0\x0c" + b"\x80" * 12, b"\2\1" + bytes(513)])
async def test_a_connection_that_makes_no_sense_is_closed(make_plugin: Callable[..., Any], sent: bytes) -> None:
    running = await make_plugin()
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)

    writer.write(sent)

    await closed(reader)
    writer.close()


async def test_a_slow_connection_is_closed(make_plugin: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunnel_server_dns_challenge.tcp.IDLE", 0.2)
    running = await make_plugin()
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    ended = asyncio.ensure_future(reader.read())

    octets = 0
    async with asyncio.timeout(4):
        for octet in frame():  # one at a time, each in less than the limit
            writer.write(bytes([octet]))
            octets += 1
            if (await asyncio.wait([ended], timeout=0.05))[0]:
                break

    assert octets < len(frame())
    writer.close()


async def test_a_connection_ends_however_busy_it_is(
    make_plugin: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunnel_server_dns_challenge.tcp.LIFE", 0.3)
    running = await make_plugin()
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)

    async def for_ever() -> None:
        while True:
            writer.write(frame())
            await framed(reader)

    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(for_ever(), 10)
    writer.close()


async def test_who_takes_no_answers_is_closed(make_plugin: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunnel_server_dns_challenge.tcp.IDLE", 0.3)
    monkeypatch.setattr(
        "tunnel_server_dns_challenge.turns.SHARE", 100.0
    )  # or it takes long to fill the kernel's buffers
    running = await make_plugin()
    for number in range(1000):
        await running.dns.publish(ZONE, f"{number:043}")
    running.plugin._pairs[0].tcp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(("127.0.0.1", running.port))
        peer.send(frame() * 20)

        def gone() -> bool:
            try:
                peer.send(b"\0", socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except ConnectionError:
                return True
            return False

        await until(gone)


@pytest.mark.parametrize(
    ("count", "addresses"),
    [
        (MAX_OF_NETWORK + 1, ["127.0.0.1"]),
        (MAX_CONNECTIONS + 1, [f"127.0.{number}.1" for number in range(MAX_CONNECTIONS)]),
    ],
    ids=["of one network", "of all"],
)
async def test_of_too_many_connections_the_oldest_goes(
    make_plugin: Callable[..., Any], count: int, addresses: list[str]
) -> None:
    running = await make_plugin()
    pairs = [
        await asyncio.open_connection("127.0.0.1", running.port, local_addr=(addresses[number % len(addresses)], 0))
        for number in range(count)
    ]

    await closed(pairs[0][0])
    for reader, writer in pairs[1:]:
        writer.write(frame())
        assert (await framed(reader)).id == QUERY.id
    for _, writer in pairs:
        writer.close()
