"""A real OpenSSH client, as its users run it."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest
from rig import LIMIT, Rig, Service, answering, plain, until

from tunnel_server.adapters.ssh.hostkey import load_host_key


@asynccontextmanager
async def running(command: list[str], stdin: int = DEVNULL) -> AsyncIterator[Process]:
    """Run a client until the block ends."""
    process = await asyncio.create_subprocess_exec(*command, stdin=stdin, stdout=PIPE, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(LIMIT):
            await process.communicate()


async def finished(command: list[str]) -> tuple[int, str, str]:
    """Run a client to its end: exit status, standard output, standard error."""
    async with running(command) as process, asyncio.timeout(LIMIT):
        out, error = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), error.decode()


async def line(process: Process, of: str = "stdout") -> str:
    async with asyncio.timeout(LIMIT):
        return (await getattr(process, of).readline()).decode()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("ssh-ed25519", {}),
        ("ecdsa-sha2-nistp256", {}),
        ("ecdsa-sha2-nistp384", {}),
        ("ecdsa-sha2-nistp521", {}),
        ("ssh-rsa", {"key_size": 2048}),
    ],
)
async def test_hello_publishes_with_every_kind_of_key(rig: Rig, kind: str, options: dict[str, int]) -> None:
    key = rig.key(kind, **options)
    async with Service(answering(plain(b"app"))) as service:
        command = rig.openssh("hello", key=key, options=("-R", f"/my-tunnel:localhost:{service.port}"))
        async with running(command) as client:
            said = await line(client)
            hello = json.loads(said)

            assert said.endswith("}\r\n")
            assert " " not in said
            assert list(hello) == ["clientId", "tunnels", "baseUrl", "rootUrl"]
            label = f"my-tunnel-{hello['clientId']}"
            assert hello["tunnels"] == {"/my-tunnel": f"http://{label}.tunnels.test:3000/"}
            assert hello["baseUrl"] == {"hostname": "tunnels.test", "port": "3000", "protocol": "http:"}
            assert (await rig.get(f"{label}.tunnels.test")).body == b"app"
            tunnel = rig.registry.find(label)
            assert (tunnel.client.user, tunnel.client.address) == ("env", "127.0.0.1")

        await until(lambda: len(rig.registry) == 0)


async def test_hello_without_a_tunnel_answers_and_ends(rig: Rig) -> None:
    status, out, _ = await finished(rig.openssh("hello"))

    assert (status, json.loads(out)["tunnels"]) == (0, {})


async def test_tunnel_url_tells_urls_without_opening_anything(rig: Rig) -> None:
    status, out, _ = await finished(rig.openssh("tunnel-url", "a", "/b", "//c"))

    urls = json.loads(out)
    assert status == 0
    assert list(urls) == ["a", "/b", "//c"]
    for name, start in (("a", "a-"), ("/b", "b-"), ("//c", "-c-")):
        assert re.fullmatch(rf"http://{start}\w+(-\w{{8}})?\.tunnels\.test:3000/", urls[name]), name


async def test_any_other_command_fails_and_says_why(rig: Rig) -> None:
    status, out, error = await finished(rig.openssh("cat", "/etc/passwd"))

    assert (status, out) == (255, "")
    assert "unknown command 'cat /etc/passwd'" in error


async def test_a_session_without_a_command_prints_each_url_on_a_line_of_its_own(rig: Rig) -> None:
    options = ("-T", "-R", "/one:localhost:1", "-R", "/two:localhost:1")
    async with running(rig.openssh(options=options)) as client:
        urls = [await line(client), await line(client)]

        assert [re.sub(r"-\w{8}\.", ".", url) for url in urls] == [
            "http://one.tunnels.test:3000/\n",
            "http://two.tunnels.test:3000/\n",
        ]
        assert len(rig.registry) == 2  # standard input has long ended


@pytest.mark.parametrize("key", [b"\x03", b"\x04"], ids=["Ctrl-C", "Ctrl-D"])
@pytest.mark.parametrize("words", [(), ("hello",)], ids=["shell", "hello"])
async def test_with_a_terminal_a_key_press_ends_the_session_and_its_tunnels(
    rig: Rig, key: bytes, words: tuple[str, ...]
) -> None:
    async with running(rig.openssh(*words, options=("-tt", "-R", "/one:localhost:1")), stdin=PIPE) as client:
        assert (await line(client)).endswith("\r\n")
        assert client.stdin is not None
        client.stdin.write(b"typed\r" + key)

        async with asyncio.timeout(LIMIT):
            rest, _ = await client.communicate()
        assert rest == b""
        await until(lambda: len(rig.registry) == 0)


async def test_without_a_session_a_tunnel_stays(rig: Rig) -> None:
    async with running(rig.openssh(options=("-N", "-R", "/one:localhost:1"))):
        await until(lambda: len(rig.registry) == 1)


async def test_a_refused_forward_is_told_with_the_reason(rig: Rig) -> None:
    options = ("-R", "/good:localhost:1", "-R", "/bad#colour=red:localhost:1", "-R", "9999:localhost:1")
    async with running(rig.openssh("hello", options=options)) as client:
        hello = json.loads(await line(client))
        told = await line(client, "stderr") + await line(client, "stderr")

    assert list(hello["tunnels"]) == ["/good"]
    assert "invalid param 'colour'" in told
    assert "only named forwards are served" in told


async def test_a_refused_forward_without_a_session_is_told_to_the_curious(rig: Rig) -> None:
    command = rig.openssh(options=("-N", "-o", "LogLevel=DEBUG1", "-R", "/bad#colour=red:localhost:1"))
    async with running(command) as client:
        while "invalid param 'colour'" not in (said := await line(client, "stderr")):
            assert said


async def test_a_name_held_by_a_live_connection_of_the_same_key_names_it(rig: Rig) -> None:
    async with running(rig.openssh("hello", options=("-R", "/one:localhost:1"))) as first:
        await line(first)

        _, out, error = await finished(rig.openssh("hello", options=("-R", "/one:localhost:1")))

    assert json.loads(out)["tunnels"] == {}
    assert "127.0.0.1" in error
    assert re.search(r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", error)


@pytest.mark.parametrize(
    ("options", "words"),
    [(("-s",), ("sftp",)), (("-W", "127.0.0.1:22"), ()), (("-A",), ("sh",)), (("-X",), ("xterm",))],
)
async def test_nothing_is_executed_and_nothing_reached(
    rig: Rig, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    status, out, _ = await finished(rig.openssh(*words, options=options))

    assert (status, out) == (255, "")


async def test_offering_a_key_gives_nobody_its_identity(rig: Rig) -> None:
    victim = rig.key(name="victim")
    offered = victim.with_suffix(".pub")
    await asyncio.to_thread(asyncssh.read_private_key(victim).write_public_key, offered)
    _, honest, _ = await finished(rig.openssh("hello"))

    # OpenSSH asks whether the victim's key would do, hears yes, and cannot sign with it
    _, pretender, error = await finished(
        rig.openssh("hello", key=offered, options=("-o", "LogLevel=DEBUG1", "-i", str(rig.key())))
    )

    assert "Server accepts key: " + str(offered) in error
    assert json.loads(pretender)["clientId"] == json.loads(honest)["clientId"]


def test_the_host_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "ssh" / "key"

    made = load_host_key(path, None)

    assert path.stat().st_mode & 0o777 == 0o600
    assert load_host_key(path, None).public_data == made.public_data


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="acknowledgements are only delayed this way on Linux")
async def test_logging_in_waits_for_no_delayed_acknowledgement(rig: Rig) -> None:
    """Each would cost 40 ms; without care for them a login takes two or more."""
    key = rig.key()
    for _ in range(10):  # a busy machine may spoil some
        started = time.perf_counter()
        async with running(rig.openssh("hello", key=key)) as client:
            await line(client)
            took = time.perf_counter() - started
        if took < 0.05:
            return
    pytest.fail(f"ten logins took long, the last {took * 1e3:.0f} ms")
