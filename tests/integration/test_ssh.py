"""What only a client under the test's control can do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
from collections.abc import Callable
from typing import Any

import asyncssh
import pytest
import structlog
from asyncssh.constants import MSG_GLOBAL_REQUEST
from asyncssh.packet import Boolean, String
from rig import LIMIT, Rig, Service, answering, plain, until

from tunnel_server.adapters.proxy.upstream import Upstream
from tunnel_server.adapters.ssh import connection
from tunnel_server.adapters.ssh.connection import MAX_UNHANDLED, Connection
from tunnel_server.adapters.ssh.session import READ_WITHIN

FORWARD = b"streamlocal-forward@openssh.com"
CANCEL = b"cancel-streamlocal-forward@openssh.com"


async def ask(connection: asyncssh.SSHClientConnection, request: bytes, path: bytes) -> bool:
    """Send a global request as it is; true if the server grants it."""
    async with asyncio.timeout(LIMIT):
        kind, _ = await connection._make_global_request(request, String(path))
    return bool(kind == asyncssh.connection.MSG_REQUEST_SUCCESS)


async def first_line(connection: asyncssh.SSHClientConnection, command: str) -> str:
    process = await connection.create_process(command)
    return await process.stdout.readline()


async def test_the_same_request_twice_on_one_connection_is_refused(rig: Rig) -> None:
    async with rig.client() as client:
        assert await ask(client, FORWARD, b"/web")
        assert not await ask(client, FORWARD, b"/web")
        assert len(rig.registry) == 1


async def test_a_cancel_closes_its_tunnel_and_an_unknown_one_harms_nothing(rig: Rig) -> None:
    async with rig.client() as client:
        assert await ask(client, FORWARD, b"/web#access=private")
        assert not await ask(client, CANCEL, b"/web")
        assert not await ask(client, CANCEL, b"\xff")
        assert len(rig.registry) == 1

        assert await ask(client, CANCEL, b"/web#access=private")
        assert len(rig.registry) == 0
        assert await ask(client, FORWARD, b"/web")


@pytest.mark.parametrize("path", [b"\xff\xfe", b"", b"/", b"/a#b", b"/" + b"x" * 100_000, b"/a#meta=bm9wZQ"])
async def test_a_request_that_cannot_be_served_is_refused_and_the_connection_lives(rig: Rig, path: bytes) -> None:
    async with rig.client() as client:
        assert not await ask(client, FORWARD, path)
        assert await ask(client, FORWARD, b"/fine")


async def test_a_connection_holds_a_bounded_number_of_tunnels(make_rig: Callable[..., Any]) -> None:
    async with make_rig(max_tunnels_per_connection=3) as rig, rig.client() as client:
        granted = [await ask(client, FORWARD, b"/t%d" % n) for n in range(5)]

        assert granted == [True, True, True, False, False]


async def test_forwards_pipelined_before_hello_are_all_in_its_map(rig: Rig) -> None:
    async with rig.client() as client:
        for n in range(30):
            client._send_global_request(FORWARD, String(b"/t%d" % n), want_reply=False)
        process = await client.create_process("hello")
        async with asyncio.timeout(LIMIT):
            hello = json.loads(await process.stdout.readline())

        assert sorted(hello["tunnels"]) == sorted(f"/t{n}" for n in range(30))


async def test_a_holder_that_does_not_answer_loses_its_name_within_the_probe(make_rig: Callable[..., Any]) -> None:
    async with make_rig(probe_timeout=0.3) as rig:
        key = rig.key()
        command = rig.openssh(key=key, options=("-N", "-R", "/web:localhost:1"))
        holder = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
        try:
            await until(lambda: len(rig.registry) == 1)
            os.kill(holder.pid, signal.SIGSTOP)
            async with rig.client(asyncssh.read_private_key(key)) as newcomer:
                assert await ask(newcomer, FORWARD, b"/web")
                assert len(rig.registry) == 1
        finally:
            holder.kill()
            await holder.wait()


async def test_a_client_that_falls_silent_is_hung_up_on(make_rig: Callable[..., Any]) -> None:
    async with make_rig(keepalive_interval=0.1, keepalive_count_max=2) as rig:
        command = rig.openssh(options=("-N", "-R", "/web:localhost:1"))
        client = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
        try:
            await until(lambda: len(rig.registry) == 1)
            transport = next(iter(rig.registry._by_transport))
            heard = transport._heard_at
            await until(lambda: transport._heard_at > heard + 0.25)  # it answers, and so it stays
            assert len(rig.registry) == 1

            os.kill(client.pid, signal.SIGSTOP)

            await until(lambda: len(rig.registry) == 0)
        finally:
            client.kill()
            await client.wait()


async def test_a_holder_that_answers_keeps_its_name(rig: Rig) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with rig.client(key) as holder, rig.client(key) as newcomer:
        assert await ask(holder, FORWARD, b"/web")
        assert not await ask(newcomer, FORWARD, b"/web")
        assert await ask(newcomer, FORWARD, b"/other")


async def test_a_client_that_dies_while_its_forward_is_settled_leaves_no_tunnel(make_rig: Callable[..., Any]) -> None:
    async with make_rig(probe_timeout=0.5) as rig:
        key = rig.key()
        command = rig.openssh(key=key, options=("-N", "-R", "/web:localhost:1"))
        holder = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
        try:
            await until(lambda: len(rig.registry) == 1)
            os.kill(holder.pid, signal.SIGSTOP)
            async with rig.client(asyncssh.read_private_key(key)) as newcomer:
                newcomer._send_global_request(FORWARD, String(b"/web"), want_reply=True)
                await asyncio.sleep(0)
                newcomer.abort()
            await until(lambda: b"clientId=" not in rig.container.metrics().render()[0] or len(rig.registry) == 0)
        finally:
            holder.kill()
            await holder.wait()
        await until(lambda: len(rig.registry) == 0)


async def test_a_stranger_is_hung_up_on_after_the_login_grace_time(make_rig: Callable[..., Any]) -> None:
    async with make_rig(login_timeout=0.3) as rig:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.ssh.port)
        async with asyncio.timeout(LIMIT):
            assert (await reader.readline()).startswith(b"SSH-2.0-tunnelserver_00")
            await reader.read()
        writer.close()
        await writer.wait_closed()


async def test_too_many_strangers_displace_each_other_and_not_the_next_client(make_rig: Callable[..., Any]) -> None:
    async with make_rig(max_unauthenticated=5) as rig:
        strangers = [await asyncio.open_connection("127.0.0.1", rig.ssh.port) for _ in range(20)]

        async with rig.client() as client:
            assert await ask(client, FORWARD, b"/web")

        for _, writer in strangers:
            writer.close()


async def test_only_public_keys_are_asked_for(rig: Rig) -> None:
    with pytest.raises(asyncssh.PermissionDenied):
        async with asyncssh.connect(
            "127.0.0.1", rig.ssh.port, username="a", password="b", client_keys=None, known_hosts=None, config=None,
            agent_path=None,
        ):  # fmt: skip
            pass


async def test_no_connection_can_be_opened_through_the_server(rig: Rig) -> None:
    async with rig.client() as client:
        with pytest.raises(asyncssh.ChannelOpenError):
            await client.open_connection("127.0.0.1", rig.http.port)
        with pytest.raises(asyncssh.ChannelOpenError):
            await client.open_unix_connection("/var/run/docker.sock")


async def test_sessions_of_one_connection_are_bounded(make_rig: Callable[..., Any]) -> None:
    async with make_rig(max_sessions_per_connection=2) as rig, rig.client() as client:
        await client.create_process()
        await client.create_process()
        with pytest.raises(asyncssh.ChannelOpenError):
            await client.create_process()


async def test_a_stop_tells_the_sessions_and_hangs_up(rig: Rig) -> None:
    async with rig.client() as client:
        await ask(client, FORWARD, b"/web")
        process = await client.create_process()
        await process.stdout.readline()

        await rig.ssh.__aexit__(None, None, None)

        async with asyncio.timeout(LIMIT):
            assert "the server is stopping" in await process.stderr.read()
            await client.wait_closed()
    assert len(rig.registry) == 0


async def test_a_client_that_refuses_channels_is_an_unreachable_service(rig: Rig) -> None:
    async with rig.client() as client:
        assert await ask(client, FORWARD, b"/web")  # asyncssh knows nothing of it, and refuses what comes
        label = rig.registry.held_by(next(iter(rig.registry._by_transport)))[0].label

        assert (await rig.get(f"{label}.tunnels.test")).status == 502


async def test_five_hundred_tunnels_at_once_work(make_rig: Callable[..., Any]) -> None:
    async with make_rig(max_tunnels_per_connection=500) as rig, Service(answering(plain(b"app"))) as service:
        async with rig.client() as client:
            for n in range(500):
                await client.forward_remote_path_to_port(f"/t{n}", "127.0.0.1", service.port)
            labels = [tunnel.label for tunnel in rig.registry.held_by(next(iter(rig.registry._by_transport)))]

            bodies = [(await rig.get(f"{label}.tunnels.test")).body for label in labels]

        assert bodies == [b"app"] * 500


async def test_metrics_name_a_client_only_while_it_is_there(rig: Rig) -> None:
    def metrics() -> str:
        body: bytes = rig.container.metrics().render()[0]
        return body.decode()

    async with Service(answering(plain(b"x"))) as service, rig.tunnel(service.port) as host:
        client_id = host.partition(".")[0].removeprefix("web-")
        await rig.get(host)
        labels = f'{{clientId="{client_id}",serviceName="preevy-tunnel-server"}}'

        assert f"sshConnections{labels} 1\n" in metrics()
        assert f"tunnels{labels} 1\n" in metrics()
        assert f"requests{labels} 1\n" in metrics()
        assert "# TYPE requests counter\n" in metrics()

    await until(lambda: client_id not in metrics())


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ssh-rsa"])
async def test_requests_pipelined_right_behind_authentication_work(
    rig: Rig, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    early: list[asyncio.Task[Any]] = []
    sign = asyncssh.SSHClientConnection.send_userauth_request

    async def sign_and_go_on(self: Any, *args: Any, key: Any = None, trivial: bool = True) -> None:
        await sign(self, *args, key=key, trivial=trivial)
        if key is not None and not early:
            self._auth_complete = True  # or asyncssh would hold these back until the server's word
            early.append(asyncio.create_task(ask(self, FORWARD, b"/web")))
            early.append(asyncio.create_task(first_line(self, "hello")))
            await asyncio.sleep(0)
            self._auth_complete = False

    monkeypatch.setattr(asyncssh.SSHClientConnection, "send_userauth_request", sign_and_go_on)
    async with rig.client(asyncssh.generate_private_key(kind)), asyncio.timeout(LIMIT):
        forward, line = early
        assert await forward
        assert list(json.loads(await line)["tunnels"]) == ["/web"]


async def test_a_flood_of_requests_ends_the_flooder_and_nobody_else(rig: Rig) -> None:
    async with Service(answering(plain(b"app"))) as service, rig.tunnel(service.port) as host:
        async with rig.client() as flooder:
            tasks = [asyncio.create_task(ask(flooder, FORWARD, b"/t%d" % n)) for n in range(5000)]
            await asyncio.wait(tasks, timeout=LIMIT)
            await until(lambda: flooder.is_closed())

        assert (await rig.get(host)).body == b"app"
        await until(lambda: len(rig.registry) == 1)


async def test_an_error_of_ours_ends_a_channel_and_not_the_client(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = Upstream.data_received

    def broken(self: Upstream, data: bytes) -> None:
        if b"poison" in data:
            raise RuntimeError("a defect")
        healthy(self, data)

    monkeypatch.setattr(Upstream, "data_received", broken)
    async with (
        Service(answering(plain(b"poison"), plain(b"fine"))) as service,
        rig.tunnel(service.port) as host,
    ):
        logged = structlog.testing.LogCapture()
        monkeypatch.setattr("tunnel_server.adapters.ssh.channel.log", structlog.wrap_logger(None, processors=[logged]))
        visit = await rig.connect()
        await visit.send("GET", "/", f"Host: {host}")
        status = (await visit.answer()).status
        service._handle = answering(plain(b"fine"))

        assert (status, (await rig.get(host)).body) == (502, b"fine")
    assert [entry["event"] for entry in logged.entries] == ["channel.failed"]


async def test_many_requests_behind_a_slow_one_are_each_answered(rig: Rig) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with rig.client(key) as holder, rig.client(key) as other:
        assert await ask(holder, FORWARD, b"/web")
        holder._transport.pause_reading()  # the probe of this holder takes its time
        slow = asyncio.create_task(ask(other, FORWARD, b"/web"))
        bad = [asyncio.create_task(ask(other, FORWARD, b"\xff%d" % n)) for n in range(250)]
        asyncio.get_running_loop().call_later(0.1, holder._transport.resume_reading)

        assert await asyncio.gather(slow, *bad) == [False] * 251
        assert not other.is_closed()


async def test_a_client_gone_before_its_refusal_is_due_leaves_no_error(rig: Rig) -> None:
    failures: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
    async with rig.client() as client:
        channel, _ = await client.create_session(asyncssh.SSHClientSession)
        channel._send_request(b"exec", String("nope"))
        channel.abort()
        later = asyncio.Event()
        asyncio.get_running_loop().call_later(2 * READ_WITHIN, later.set)
        await later.wait()
    assert failures == []


async def test_a_stranger_who_floods_takes_turns_with_everybody_else(rig: Rig) -> None:
    packet = struct.pack(">IB", 12, 6) + b"\x02" + bytes(10)  # the smallest, MSG_IGNORE
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.ssh.port)
    await reader.readline()
    writer.write(b"SSH-2.0-flood\r\n" + packet * 200_000)
    longest = 0.0
    before = loop.time()
    while writer.transport.get_write_buffer_size():  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        now = loop.time()
        longest, before = max(longest, now - before), now
    writer.close()

    assert longest < 50 * connection.TURN


async def test_requests_piled_up_on_a_session_end_the_client(rig: Rig) -> None:
    async with rig.client() as client:
        channel, _ = await client.create_session(asyncssh.SSHClientSession)
        for _ in range(100):
            channel._send_request(b"exec", String("nope"))

        async with asyncio.timeout(LIMIT):
            await client.wait_closed()


async def test_a_client_that_asks_and_never_listens_is_not_listened_to(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it asks for waits with it, and not in the server's memory."""
    monkeypatch.setattr(connection, "SOCKET_BUFFER", 16 * 1024)
    monkeypatch.setattr(connection, "UNREAD_LIMIT", 32 * 1024)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", rig.ssh.port))
    sock.setblocking(False)
    async with rig.client(sock=sock) as client:
        await until(lambda: rig.container.ssh()._lobby.owners)
        (owner,) = rig.container.ssh()._lobby.owners
        server_side, transport = owner.connection, client._transport
        server_side.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        transport.pause_reading()
        async with asyncio.timeout(LIMIT):
            while not server_side._held:
                for _ in range(100):
                    client.send_packet(MSG_GLOBAL_REQUEST, String("keepalive@openssh.com"), Boolean(True))
                await asyncio.sleep(0)

        assert server_side._transport.get_write_buffer_size() < 1024 * 1024
        client.abort()
        await until(lambda: server_side.closed)


async def test_what_follows_a_packet_that_takes_long_waits_in_the_clients_socket(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    served: list[Connection] = []

    async def slow(self: Connection) -> None:
        served.append(self)
        await gate.wait()

    class Floods(asyncssh.SSHClient):
        def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
            self.connection = conn

    monkeypatch.setattr(Connection, "reload_config", slow)  # which the first authentication request waits for
    client = Floods()
    connecting = asyncio.create_task(enter(rig.client(client_factory=lambda: client)))
    await until(lambda: served)
    transport = client.connection._transport
    assert transport is not None

    transport.write(bytes(32 << 20))
    await until(lambda: served[0]._overfull)

    assert len(served[0]._inpbuf) <= MAX_UNHANDLED + (256 << 10)
    gate.set()
    await until(lambda: served[0].closed)  # zeros are no packet
    with pytest.raises((asyncssh.Error, OSError)):
        await connecting


async def enter(context: Any) -> None:
    async with context:
        pass


async def test_a_session_of_one_byte_packets_is_refused(rig: Rig) -> None:
    async with rig.client() as client:
        with pytest.raises((asyncssh.Error, OSError)):
            await client.run("hello", max_pktsize=1, check=True)

        await until(lambda: not rig.ssh._lobby.owners)


async def test_a_service_behind_one_byte_packets_is_not_asked(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def tiny(
        self: asyncssh.SSHClientConnection, channel: int, other: int, window: int, size: int, *rest: bytes
    ) -> None:
        original(self, channel, other, window, 1, *rest)

    async with Service(answering(plain(b"x"))) as service, rig.tunnel(service.port) as host:
        original = asyncssh.SSHClientConnection.send_channel_open_confirmation
        monkeypatch.setattr(asyncssh.SSHClientConnection, "send_channel_open_confirmation", tiny)

        answer = await rig.get(host)

        assert (answer.status, b"less than 1024 bytes" in answer.body) == (502, True)


async def test_a_client_that_answers_within_the_same_tick_of_the_clock_is_alive(
    make_rig: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_rig(keepalive_interval=0.01, keepalive_count_max=2) as rig, rig.client():
        owner = await until(lambda: next((owner for owner in rig.ssh._lobby.owners if owner.client), None))
        loop = asyncio.get_running_loop()
        began, real = loop.time(), loop.time
        monkeypatch.setattr(loop, "time", lambda: began + (real() - began) // 0.05 * 0.05)  # a clock of 50 ms
        heard = owner.connection._heard_times

        await until(lambda: owner.connection._heard_times > heard + 10 or owner.connection.closed)

        assert not owner.connection.closed


@pytest.mark.parametrize("which", ["ssh", "visitor"])
async def test_accepted_sockets_have_the_buffers_that_were_set(make_rig: Callable[..., Any], which: str) -> None:
    async with make_rig(**{f"{which}_socket_buffer": 100_000}) as rig:
        if which == "ssh":
            async with rig.client():
                owner = await until(lambda: next(iter(rig.ssh._lobby.owners), None))
                sock = owner.connection.get_extra_info("socket")
                size = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        else:
            await rig.connect()
            visitor = await until(lambda: next(iter(rig.container.relay()._visitors), None))
            size = visitor.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    assert size == 200_000  # Linux doubles it, for its own accounts
