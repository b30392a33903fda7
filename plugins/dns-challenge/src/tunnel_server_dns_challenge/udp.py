"""Questions that come as datagrams."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

from tunnel_server_dns_challenge.answer import MAX_DATAGRAM, answer
from tunnel_server_dns_challenge.faults import Faults
from tunnel_server_dns_challenge.metrics import Metrics
from tunnel_server_dns_challenge.rates import Grant, Rates
from tunnel_server_dns_challenge.turns import Turns
from tunnel_server_dns_challenge.zones import Zones

_IP_PKTINFO = 8  # Linux's number, which Python does not name
_Ancillary = list[tuple[int, int, bytes]]


class UdpServer:
    """Answers on one socket. What cannot be answered in time is left to the kernel, which drops it."""

    def __init__(
        self, sock: socket.socket, zones: Zones, rates: Rates, turns: Turns, metrics: Metrics, faults: Faults
    ) -> None:
        self._sock = sock
        self._zones = zones
        self._rates = rates
        self._turns = turns
        self._metrics = metrics
        self._faults = faults

    async def serve(self) -> None:
        """Answer until cancelled. May be called again."""
        _tell_destinations(self._sock)
        while True:
            await _readable(self._sock)
            more = True
            while more:
                async with self._turns.turn():
                    more = self._one()

    def _one(self) -> bool:
        """Answer one datagram; false if there is none."""
        try:
            wire, ancillary, flags, peer = self._sock.recvmsg(MAX_DATAGRAM, socket.CMSG_SPACE(20))
        except OSError:  # there is none, or it is the network's word on an earlier answer
            return False
        outcome = "dropped"
        try:
            grant = self._rates.take(peer[0])
            if grant is not Grant.NONE and not flags & socket.MSG_TRUNC:
                reply = answer(wire, self._zones, MAX_DATAGRAM, grant is Grant.SHORT)
                if reply is not None:
                    outcome = reply.outcome
                    self._reply(reply.wire, ancillary, peer)
        except Exception as error:  # the next one may be answered
            outcome = "failed"
            self._faults.log("a datagram", error)
        self._metrics.query("udp", outcome)
        return True

    def _reply(self, wire: bytes, ancillary: _Ancillary, peer: tuple[object, ...]) -> None:
        with contextlib.suppress(OSError):  # the buffer is full, or there is no way back: it is asked again
            self._sock.sendmsg([wire], _back(ancillary), 0, peer)


async def _readable(sock: socket.socket) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)


def _tell_destinations(sock: socket.socket) -> None:
    """Have each datagram come with the address that it was sent to.

    The answer has to come from there, or nobody believes it; a machine with several addresses would choose any.
    """
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    elif sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def _back(ancillary: _Ancillary) -> _Ancillary:
    """Return what sends an answer from the address of the question, by whichever interface leads back."""
    if not ancillary:
        return []
    level, kind, info = ancillary[0]
    if level == socket.IPPROTO_IPV6:
        return [(level, kind, info[:16] + bytes(4))]  # address, interface (RFC 3542 §6)
    return [(level, kind, bytes(4) + info[4:8] + bytes(4))]  # interface, own address, address in the header: ip(7)
