"""The real Node library ssh2, used as Preevy's agent uses it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import shutil
import subprocess
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from rig import LIMIT, Rig, Service, answering, need, plain, until

from tunnel_server.adapters.ssh.connection import Connection
from tunnel_server.adapters.ssh.hostkey import load_host_key

INSTALL_LIMIT = 100  # seconds
META = base64.urlsafe_b64encode(json.dumps({"service": "frontend", "project": "x" * 150}).encode()).decode().rstrip("=")
LONG = f"/web#access=public;meta={META}"  # OpenSSH's command line takes 107 characters

Join = Callable[..., AbstractAsyncContextManager["Agent"]]


class Refused(Exception):
    """The error that ssh2 gave for a step."""


class Agent:
    """The Node program, told what to do step by step."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listening = asyncio.create_task(self._listen())
        self.events: list[dict[str, Any]] = []

    async def ask(self, step: str, **words: Any) -> Any:
        number = len(self._answers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "do": step, **words}).encode() + b"\n")
        async with asyncio.timeout(LIMIT):
            answer = await self._answers[number]
        if "error" in answer:
            raise Refused(answer["error"])
        return answer.get("value")

    async def hello(self) -> dict[str, Any]:
        """Ask who we are, and hang up once it is told."""
        said = await self.ask("exec", command="hello", stay=True)
        await self.ask("hangUp", command="hello")
        found: dict[str, Any] = json.loads(said["out"])
        return found

    def happened(self, event: str, **words: Any) -> int:
        """Count the events of this kind."""
        return sum(entry == {"event": event, **words} for entry in self.events)

    async def leave(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with asyncio.timeout(LIMIT):
            await self._listening
            assert await self._process.wait() == 0

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            entry = json.loads(line)
            if "event" in entry:
                self.events.append(entry)
            else:
                self._answers[entry["id"]].set_result(entry)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(EOFError("the Node program ended"))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Node, and the client program with ssh2 installed beside it."""
    node, npm = need("node"), need("npm")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "client.js"):
        shutil.copy(Path(__file__).with_name("node") / name, folder)
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_LIMIT)
    assert done.returncode == 0, done.stderr
    return node, folder / "client.js"


@pytest.fixture
def join(rig: Rig, program: tuple[str, Path]) -> Join:
    """Return a context manager that is an agent, logged in as a key's owner."""

    @asynccontextmanager
    async def make(key: Path | None = None, username: str = "env") -> AsyncIterator[Agent]:
        process = await asyncio.create_subprocess_exec(*program, stdin=PIPE, stdout=PIPE)
        agent = Agent(process)
        try:
            private = (key or rig.key()).read_text()
            told = await agent.ask("connect", port=rig.ssh.port, username=username, privateKey=private)
            kept = load_host_key(Path(rig.settings.ssh_host_key_path), None)
            assert base64.b64decode(told["hostKey"]) == kept.public_data
            yield agent
            await agent.leave()
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await agent._listening

    return make


@pytest.fixture
async def agent(join: Join) -> AsyncIterator[Agent]:
    """An agent with a key of its own."""
    async with join() as joined:
        yield joined


def host(url: str) -> str:
    """Return what a visitor of ``url`` sends as Host."""
    return url.split("/")[2].partition(":")[0]


@pytest.mark.parametrize(
    ("kind", "options", "signed"),
    [
        ("ssh-ed25519", {}, "ssh-ed25519"),
        ("ssh-rsa", {"key_size": 4096}, "rsa-sha2-256"),
        ("ecdsa-sha2-nistp256", {}, "ecdsa-sha2-nistp256"),
        ("ecdsa-sha2-nistp384", {}, "ecdsa-sha2-nistp384"),
        ("ecdsa-sha2-nistp521", {}, "ecdsa-sha2-nistp521"),
    ],
)
async def test_every_kind_of_key_names_its_owner(
    rig: Rig, join: Join, monkeypatch: pytest.MonkeyPatch, kind: str, options: dict[str, Any], signed: str
) -> None:
    signatures = []
    validate = Connection.validate_public_key

    async def note(self: Connection, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        signatures.append(signature)
        return await validate(self, username, key_data, msg, signature)

    monkeypatch.setattr(Connection, "validate_public_key", note)
    key = rig.key(kind, **options)
    blob = asyncssh.read_private_key(key).public_data
    digest = base64.urlsafe_b64encode(hashlib.sha1(blob).digest()).decode()

    async with join(key, username="pr 12/ü") as agent, Service(answering(plain(b"app"))) as service:
        await agent.ask("forward", path="/web", port=service.port)
        hello = await agent.hello()
        answer = await rig.get(host(hello["tunnels"]["/web"]))
        [tunnel] = rig.registry.held_by(next(iter(rig.registry._by_transport)))

    algorithm = asyncssh.packet.SSHPacket(signatures[-1]).get_string()
    assert algorithm.decode() == signed
    assert hello["clientId"] == digest.replace("-", "").replace("_", "")[:8].lower()
    assert tunnel.client.user == "pr 12/ü"
    assert answer.body == b"app"


async def test_a_long_request_comes_back_whole_with_each_connection(rig: Rig, agent: Agent) -> None:
    assert len(LONG) > 107
    async with Service(answering(plain(b"app"))) as service:
        await agent.ask("forward", path=LONG, port=service.port)
        tunnels = (await agent.hello())["tunnels"]
        answer = await rig.get(host(tunnels[LONG]), "/some?path", "X-Mine: 1")

    assert list(tunnels) == [LONG]
    assert (answer.status, answer.body) == (200, b"app")
    assert [entry for entry in agent.events if entry["event"] == "connection"] == [
        {"event": "connection", "path": LONG}
    ]


async def test_hello_is_one_line_of_compact_json_and_stays_open(rig: Rig, agent: Agent) -> None:
    await agent.ask("forward", path=LONG, port=1)

    said = await agent.ask("exec", command="hello", stay=True)

    await agent.ask("exec", command="tunnel-url a")  # had the server ended the session, this is behind the news of it
    assert agent.happened("session closed", command="hello") == 0
    client_id = json.loads(said["out"])["clientId"]
    expected = {
        "clientId": client_id,
        "tunnels": {LONG: f"http://web-{client_id}.tunnels.test:3000/"},
        "baseUrl": {"hostname": "tunnels.test", "port": "3000", "protocol": "http:"},
        "rootUrl": "http://tunnels.test:3000/",
    }
    assert said == {"out": json.dumps(expected, separators=(",", ":")) + "\r\n", "error": "", "status": None}


async def test_an_agent_that_hangs_up_on_hello_keeps_its_tunnels(rig: Rig, agent: Agent) -> None:
    async with Service(answering(plain(b"app"))) as service:
        await agent.ask("forward", path="/web", port=service.port)
        first = await agent.hello()
        assert agent.happened("session closed", command="hello") == 1

        assert await agent.hello() == first
        assert (await rig.get(host(first["tunnels"]["/web"]))).body == b"app"


async def test_hello_without_a_tunnel_ends(agent: Agent) -> None:
    said = await agent.ask("exec", command="hello")

    assert (json.loads(said["out"])["tunnels"], said["error"], said["status"]) == ({}, "", 0)


async def test_tunnel_url_tells_each_name_its_url_and_ends(rig: Rig, agent: Agent) -> None:
    client_id = (await agent.hello())["clientId"]

    said = await agent.ask("exec", command="tunnel-url a b")

    urls = {name: f"http://{name}-{client_id}.tunnels.test:3000/" for name in ("a", "b")}
    assert said == {"out": json.dumps(urls, separators=(",", ":")) + "\r\n", "error": "", "status": 0}
    assert len(rig.registry) == 0


async def test_any_other_command_is_an_error_and_the_connection_lives(agent: Agent) -> None:
    with pytest.raises(Refused, match="Unable to exec"):
        await agent.ask("exec", command="cat /etc/passwd")

    await agent.hello()


async def test_a_cancelled_forward_is_gone_and_may_be_asked_for_again(rig: Rig, agent: Agent) -> None:
    async with Service(answering(plain(b"app"))) as service:
        await agent.ask("forward", path=LONG, port=service.port)
        await agent.ask("forward", path="/other", port=service.port)
        tunnels = (await agent.hello())["tunnels"]
        assert (await rig.get(host(tunnels[LONG]))).status == 200
        with pytest.raises(Refused, match="Unable to unbind from /web"):
            await agent.ask("unforward", path="/web")

        await agent.ask("unforward", path=LONG)

        assert list((await agent.hello())["tunnels"]) == ["/other"]
        assert (await rig.get(host(tunnels[LONG]))).status == 502
        assert (await rig.get(host(tunnels["/other"]))).status == 200
        await agent.ask("forward", path=LONG, port=service.port)
        assert (await rig.get(host(tunnels[LONG]))).body == b"app"


async def test_forwards_asked_for_at_once_each_reach_their_service(rig: Rig, agent: Agent) -> None:
    async with Service(answering(plain(b"one"))) as one, Service(answering(plain(b"two"))) as two:
        await asyncio.gather(
            agent.ask("forward", path=LONG, port=one.port), agent.ask("forward", path="/two", port=two.port)
        )
        tunnels = (await agent.hello())["tunnels"]
        hosts = [host(tunnels[LONG]), host(tunnels["/two"])] * 10

        answers = await asyncio.gather(*(rig.get(name) for name in hosts))

        assert [answer.body for answer in answers] == [b"one", b"two"] * 10


async def test_the_errors_of_forwards_asked_for_at_once_go_to_the_right_ones(rig: Rig, join: Join) -> None:
    async with join() as holder, join() as newcomer:
        await holder.ask("forward", path="/taken", port=1)

        # the first answer takes a probe of the holder, the others do not
        results = await asyncio.gather(
            *(newcomer.ask("forward", path=path, port=1) for path in ("/taken", "/free", "/bad#colour=red", "/last")),
            return_exceptions=True,
        )

        assert [str(result) for result in results] == [
            "Unable to bind to /taken",
            "None",
            "Unable to bind to /bad#colour=red",
            "None",
        ]
        assert list((await newcomer.hello())["tunnels"]) == ["/free", "/last"]
        assert list((await holder.hello())["tunnels"]) == ["/taken"]
        told = await newcomer.ask("exec", command="hello", stay=True)
        assert "your other connection from 127.0.0.1 has held" in told["error"]
        assert "invalid param 'colour'" in told["error"]


async def test_the_same_request_twice_is_an_error_and_the_first_stays(rig: Rig, agent: Agent) -> None:
    async with Service(answering(plain(b"app"))) as service:
        await agent.ask("forward", path=LONG, port=service.port)

        with pytest.raises(Refused, match="Unable to bind to /web#access=public"):
            await agent.ask("forward", path=LONG, port=service.port)

        said = await agent.ask("exec", command="hello", stay=True)
        assert (await rig.get(host(json.loads(said["out"])["tunnels"][LONG]))).body == b"app"
    assert "refused" in said["error"]
    assert len(rig.registry) == 1


@pytest.mark.parametrize("protocol", ["websocket", "tcp"])
async def test_an_upgraded_connection_is_raw_bytes_both_ways(rig: Rig, agent: Agent, protocol: str) -> None:
    sent = os.urandom(3 << 20)  # more than the windows of both ends

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert f"upgrade: {protocol}" in head
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n\0first ")
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write(b"last")  # the visitor has ended its side, ours is open

    async with Service(echo) as service:
        await agent.ask("forward", path="/web", port=service.port)
        url = (await agent.hello())["tunnels"]["/web"]
        visit = await rig.connect()
        await visit.send("GET", "/", f"Host: {host(url)}", "Connection: Upgrade", f"Upgrade: {protocol}", body=b"early")
        assert (await visit.head())[0] == 101

        async with asyncio.timeout(LIMIT):
            _, heard = await asyncio.gather(
                visit.raw(sent), visit.reader.readexactly(len(b"\0first early") + len(sent))
            )
        visit.writer.write_eof()

        assert heard == b"\0first early" + sent
        assert await visit.rest() == b"last"


async def test_a_service_that_is_not_there_is_that_tunnels_affair(rig: Rig, agent: Agent) -> None:
    async with Service(answering(plain(b"app"))) as gone:
        port = gone.port
    async with Service(answering(plain(b"app"))) as service:
        await agent.ask("forward", path="/gone", port=port)
        await agent.ask("forward", path="/here", port=service.port)
        tunnels = (await agent.hello())["tunnels"]

        assert (await rig.get(host(tunnels["/gone"]))).status == 502
        assert (await rig.get(host(tunnels["/here"]))).status == 200


async def test_the_tunnels_go_with_the_agent(rig: Rig, join: Join) -> None:
    async with join() as agent:
        await agent.ask("forward", path="/web", port=1)
        assert len(rig.registry) == 1

    await until(lambda: len(rig.registry) == 0)
    assert agent.happened("closed") == 1
