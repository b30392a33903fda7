"""A server connection's global requests: forwards asked for and cancelled (OpenSSH's PROTOCOL §2.4, RFC 4254 §4, §7.1).

asyncssh ends the whole connection for a forward request that is not UTF-8 or a cancel that it does not know, lets
requests queue without limit, and calls itself for each that waits.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncssh
from asyncssh.constants import MSG_GLOBAL_REQUEST
from asyncssh.packet import PacketDecodeError, SSHPacket

from tunnel_server.adapters.ssh.offer import OfferingConnection

if TYPE_CHECKING:
    from tunnel_server.adapters.ssh.owner import Owner

MAX_QUEUED_REQUESTS = 256  # global requests one client may have waiting; OpenSSH sends its -R all at once


class RequestingConnection(OfferingConnection):
    """Answers each global request by itself, in order, and knows when all are answered."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._serves_requests = False
        self._requests_seen = 0
        self._requests_settled = 0
        self._settled: asyncio.Event | None = None  # from when somebody waits for it

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return self._transport is None or self._owner is None

    def _bounded_global_request(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        if len(self._global_request_queue) >= MAX_QUEUED_REQUESTS:
            raise asyncssh.ProtocolError(f"more than {MAX_QUEUED_REQUESTS} requests waiting")
        self._requests_seen += 1
        self._process_global_request(pkttype, pktid, packet)

    def _report_global_response(self, result: bool | bytes) -> None:
        self._requests_settled += 1
        if self._settled is not None:
            self._settled.set()
        super()._report_global_response(result)

    def _service_next_global_request(self) -> None:
        """Go on with the next request, but not from within the answer to the one before: hundreds may wait."""
        if self._serves_requests:
            return
        self._serves_requests = True
        try:
            waiting = None
            while self._global_request_queue and self._global_request_queue[0] is not waiting:
                waiting = self._global_request_queue[0]  # and still there if it is answered later
                super()._service_next_global_request()
        finally:
            self._serves_requests = False

    async def requests_settled(self) -> None:
        """Return once every global request that has arrived so far is answered, or the connection is gone."""
        target = self._requests_seen
        while self._requests_settled < target and not self.closed:
            if self._settled is None or self._settled.is_set():
                self._settled = asyncio.Event()
            await self._settled.wait()

    def _cleanup(self, exc: Exception | None) -> None:
        super()._cleanup(exc)
        if self._settled is not None:
            self._settled.set()

    def _process_streamlocal_forward_at_openssh_dot_com_global_request(self, packet: SSHPacket) -> None:
        path = _only_string(packet)
        try:
            request = path.decode("utf-8")
        except UnicodeDecodeError:
            self._owner_of_forwards.forward_is_not_text(path)
            self._report_global_response(False)
            return
        self.create_task(self._settle_forward(request))

    async def _settle_forward(self, request: str) -> None:
        opened = await self._owner_of_forwards.open_forward(request)
        if not self.closed:
            self._report_global_response(opened)
            if opened:
                self._owner_of_forwards.forward_announced(request)

    def _process_cancel_streamlocal_forward_at_openssh_dot_com_global_request(self, packet: SSHPacket) -> None:
        path = _only_string(packet)
        self._report_global_response(self._owner_of_forwards.cancel_forward(path.decode("utf-8", "replace")))

    def _process_tcpip_forward_global_request(self, packet: SSHPacket) -> None:
        self._owner_of_forwards.refuse_tcp_forward()
        self._report_global_response(False)

    def _process_cancel_tcpip_forward_global_request(self, packet: SSHPacket) -> None:
        self._report_global_response(False)

    @property
    def _owner_of_forwards(self) -> Owner:
        owner: Any = self._owner
        return owner  # type: ignore[no-any-return]

    _packet_handlers = {  # noqa: RUF012 - asyncssh's own form of a dispatch table
        **OfferingConnection._packet_handlers,
        MSG_GLOBAL_REQUEST: _bounded_global_request,
    }


def _only_string(packet: SSHPacket) -> bytes:
    try:
        value = packet.get_string()
        packet.check_end()
    except PacketDecodeError as error:
        raise asyncssh.ProtocolError(str(error)) from None
    return value
