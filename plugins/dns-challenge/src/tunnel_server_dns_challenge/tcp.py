"""Questions that come by TCP (RFC 7766)."""

from __future__ import annotations

import asyncio
import socket

from tunnel_server_dns_challenge.answer import answer
from tunnel_server_dns_challenge.faults import Faults
from tunnel_server_dns_challenge.metrics import Metrics
from tunnel_server_dns_challenge.rates import network
from tunnel_server_dns_challenge.sockets import BACKLOG
from tunnel_server_dns_challenge.turns import Turns
from tunnel_server_dns_challenge.zones import Zones

MAX_QUERY = 512  # octets: a name of the longest, and options
MAX_CONNECTIONS = 100  # of all; with one more the oldest goes
MAX_OF_NETWORK = 8
IDLE = 5.0  # seconds that a query, or the taking of an answer, may take
LIFE = 30.0  # seconds of a connection


class TcpServer:
    """Answers on one socket, several queries a connection."""

    def __init__(self, sock: socket.socket, zones: Zones, turns: Turns, metrics: Metrics, faults: Faults) -> None:
        self._sock = sock
        self._zones = zones
        self._turns = turns
        self._metrics = metrics
        self._faults = faults
        self._open: dict[asyncio.StreamWriter, bytes] = {}  # and the networks they are from, the oldest first

    async def serve(self) -> None:
        """Answer until cancelled. May be called again: the socket stays open."""
        async with asyncio.TaskGroup() as group:
            server = await asyncio.start_server(
                lambda reader, writer: self._admit(group, reader, writer),
                sock=self._sock.dup(),
                limit=2 * MAX_QUERY,
                backlog=BACKLOG,
            )
            try:
                await server.serve_forever()
            finally:
                server.close()

    def _admit(self, group: asyncio.TaskGroup, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        if not peer:  # it has gone already
            writer.transport.abort()
            return
        who = network(peer[0])
        same = [other for other, whose in self._open.items() if whose == who]
        if len(same) >= MAX_OF_NETWORK:
            self._end(same[0])
        elif len(self._open) >= MAX_CONNECTIONS:
            self._end(next(iter(self._open)))
        writer.transport.set_write_buffer_limits(0)  # so that nothing is left to write when it is closed
        group.create_task(self._talk(reader, writer))
        self._open[writer] = who

    def _end(self, writer: asyncio.StreamWriter) -> None:
        self._open.pop(writer, None)
        writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(LIFE):
                while await self._exchange(reader, writer):
                    pass
        except (TimeoutError, OSError, EOFError):  # the peer's affair
            pass
        except Exception as error:  # in the group it would end all the others
            self._metrics.query("tcp", "failed")
            self._faults.log("a TCP connection", error)
        finally:
            self._end(writer)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one query; false if the peer is not worth another."""
        async with asyncio.timeout(IDLE):
            size = int.from_bytes(await reader.readexactly(2), "big")
            wire = await reader.readexactly(size) if size <= MAX_QUERY else b""
        async with self._turns.turn():
            # While it waited it may have ended; not every event loop lets one write to it then.
            reply = None if writer.is_closing() else answer(wire, self._zones)
            self._metrics.query("tcp", "dropped" if reply is None else reply.outcome)
            if reply is None:
                return False
            writer.write(len(reply.wire).to_bytes(2, "big") + reply.wire)
        async with asyncio.timeout(IDLE):
            await writer.drain()
        return True
