"""The plugin in a real server: real logins, real certificates made by ssh-keygen, real changes of files."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from tunnel_server_authorized_keys import AuthorizedKeys

from tunnel_server.testing import Refused, RunningServer, run_server, until

NewPerson = Callable[..., Any]
LIMIT = 20.0  # seconds
ssh_keygen = shutil.which("ssh-keygen") or ""
ssh = shutil.which("ssh") or ""
needs_openssh = pytest.mark.skipif(not ssh_keygen or not ssh, reason="OpenSSH is not installed")


@pytest.fixture
def server(tmp_path: Path) -> Callable[..., Any]:
    """Return what runs a server with the plugin; the file is ``tmp_path / "keys"``."""

    def run(**settings: object) -> Any:
        its = {"path": tmp_path / "keys", "interval": "50ms"} | settings
        named = {f"authorized_keys_{name}": value for name, value in its.items()}
        return run_server([AuthorizedKeys], settings=named, folder=tmp_path / "server")

    return run


async def test_a_listed_key_publishes_what_its_line_permits_and_a_stranger_nothing(
    server: Any, tmp_path: Path, new_person: NewPerson
) -> None:
    ada, eve = new_person(), new_person()
    (tmp_path / "keys").write_text(ada.line('permitlisten="web",from="127.0.0.0/8"'))

    async with server() as running:
        async with running.tunnel(name="/web", key=ada.private) as published:
            assert (await published.get()).status == 200
        with pytest.raises(Refused, match="may not publish api"):
            async with running.tunnel(name="/api", key=ada.private):
                pass
        with pytest.raises(Refused, match="not in the server's authorized keys"):
            async with running.ssh(eve.private):
                pass
        assert running.metric("tunnel_server_authorized_keys_lines") == 1


async def test_a_key_of_another_address_or_a_time_that_is_over_is_told_why(
    server: Any, tmp_path: Path, new_person: NewPerson
) -> None:
    ada, bob = new_person(), new_person()
    (tmp_path / "keys").write_text(ada.line('from="10.0.0.0/8"') + "\n" + bob.line('expiry-time="20200101"'))

    async with server() as running:
        with pytest.raises(Refused, match="from this address"):
            async with running.ssh(ada.private):
                pass
        with pytest.raises(Refused, match="over"):
            async with running.ssh(bob.private):
                pass


async def test_a_removed_key_loses_its_connection_and_another_keeps_its_own(
    server: Any, tmp_path: Path, new_person: NewPerson
) -> None:
    ada, bob = new_person(), new_person()
    path = tmp_path / "keys"
    path.write_text(ada.line() + "\n" + bob.line())

    async with server() as running, running.tunnel(name="/ada", key=ada.private) as of_ada:
        async with running.tunnel(name="/bob", key=bob.private) as of_bob:
            (tmp_path / "new").write_text(bob.line())
            (tmp_path / "new").rename(path)
            async with asyncio.timeout(LIMIT):
                await of_ada.client.wait_closed()

            assert (await of_bob.get()).status == 200
            assert (await of_ada.get()).status == 502
            with pytest.raises(Refused):
                async with running.ssh(ada.private):
                    pass


async def test_a_tunnel_that_is_permitted_no_more_is_closed_and_its_connection_stays(
    server: Any, tmp_path: Path, new_person: NewPerson
) -> None:
    ada = new_person()
    path = tmp_path / "keys"
    path.write_text(ada.line())

    async with server() as running, running.tunnel(name="/web", key=ada.private) as web:
        path.write_text(ada.line('permitlisten="api"'))
        await until(lambda: not running.server.tunnels(), LIMIT)

        assert (await web.get()).status == 502
        assert len(running.server.clients()) == 1
        await web.client.forward_remote_path_to_port("/api", "127.0.0.1", 9)


async def test_a_time_that_ends_takes_the_connection_with_it(
    server: Any, tmp_path: Path, new_person: NewPerson
) -> None:
    ada = new_person()
    ends = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + 6))
    (tmp_path / "keys").write_text(ada.line(f'expiry-time="{ends}"'))

    async with server() as running, running.tunnel(key=ada.private) as published:
        assert (await published.get()).status == 200
        async with asyncio.timeout(LIMIT):
            await published.client.wait_closed()


def certified(folder: Path, authority: Any, person: Any, *options: str) -> Any:
    """Return a key's certificate, made by ssh-keygen; ``options`` are its own."""
    for name, private in (("ca", authority.private), ("id", person.private)):
        (folder / name).write_bytes(private.export_private_key())
        (folder / name).chmod(0o600)
    (folder / "id.pub").write_text(person.public + "\n")
    subprocess.run([ssh_keygen, "-q", "-s", "ca", "-I", "ada", *options, "id.pub"], cwd=folder, check=True)
    return person.private, asyncssh.read_certificate(folder / "id-cert.pub")


@needs_openssh
async def test_a_certificate_of_openssh_publishes_its_principals_alone(
    server: Any, tmp_path: Path, new_person: NewPerson
) -> None:
    authority, ada = new_person(), new_person()
    (tmp_path / "keys").write_text(authority.line('cert-authority,permitlisten="!api-0,*"', "our CA"))
    pair = certified(tmp_path, authority, ada, "-n", "web,api-*", "-O", "source-address=127.0.0.0/8")

    async with server() as running:
        for name in ("/web", "/api-1"):
            async with running.tunnel(name=name, key=pair) as published:
                assert (await published.get()).status == 200
                assert published.tunnel.client.public_key == ada.blob
        for name in ("/admin", "/api-0"):
            with pytest.raises(Refused, match="may not publish"):
                async with running.tunnel(name=name, key=pair):
                    pass
        with pytest.raises(Refused):
            async with running.ssh(ada.private):
                pass


@needs_openssh
@pytest.mark.parametrize(
    "options",
    [
        ("-n", "other"),
        (),
        ("-n", "web", "-O", "source-address=10.0.0.0/8"),
        ("-n", "web", "-V", "20200101:20200102"),
    ],
    ids=["other principal", "no principal", "other address", "over"],
)
async def test_a_certificate_that_does_not_fit_is_refused(
    server: Any, tmp_path: Path, new_person: NewPerson, options: tuple[str, ...]
) -> None:
    authority, ada = new_person(), new_person()
    (tmp_path / "keys").write_text(authority.line('cert-authority,principals="web"'))
    pair = certified(tmp_path, authority, ada, *options)

    async with server() as running:
        with pytest.raises(Refused):
            async with running.ssh(pair):
                pass


@needs_openssh
async def test_a_certificate_of_another_authority_is_refused_and_the_key_inside_counts_by_itself(
    server: Any, tmp_path: Path, new_person: NewPerson
) -> None:
    authority, other, ada = new_person(), new_person(), new_person()
    path = tmp_path / "keys"
    path.write_text(f"{authority.line('cert-authority')}\n{other.line()}\n")
    pair = certified(tmp_path, other, ada, "-n", "web")

    async with server() as running:
        with pytest.raises(Refused):
            async with running.ssh(pair):
                pass
    path.write_text(f"{authority.line('cert-authority')}\n{ada.line()}\n")
    async with server() as running, running.ssh(pair):
        [client] = running.server.clients()
        assert "authorized-keys.authority" not in client.attributes
        assert any(event["event"] == "client.refused" for event in running.log)


@needs_openssh
async def test_a_certificate_without_forwarding_opens_no_tunnel(
    server: Any, tmp_path: Path, new_person: NewPerson
) -> None:
    authority, ada = new_person(), new_person()
    (tmp_path / "keys").write_text(authority.line("cert-authority"))
    pair = certified(tmp_path, authority, ada, "-n", "web", "-O", "no-port-forwarding")

    async with server() as running:
        with pytest.raises(Refused, match="may not open tunnels"):
            async with running.tunnel(key=pair):
                pass


@needs_openssh
async def test_the_end_of_a_certificate_and_of_its_authority_end_the_tunnel(
    server: Any, tmp_path: Path, new_person: NewPerson
) -> None:
    authority, ada, bob = new_person(), new_person(), new_person()
    path = tmp_path / "keys"
    path.write_text(authority.line("cert-authority"))
    long = certified(tmp_path, authority, bob, "-n", "web", "-V", "-1m:+1h")

    async with server() as running, running.tunnel(name="/web", key=long) as web:
        short = certified(tmp_path, authority, ada, "-n", "api", "-V", "-1m:+5s")
        async with running.tunnel(name="/api", key=short) as api:
            async with asyncio.timeout(LIMIT):
                await api.client.wait_closed()
        assert (await web.get()).status == 200
        path.write_text(authority.line())
        async with asyncio.timeout(LIMIT):
            await web.client.wait_closed()


@needs_openssh
async def test_real_openssh_logs_in_with_its_certificate_and_is_told_why_a_tunnel_is_refused(
    server: Any, tmp_path: Path, new_person: NewPerson
) -> None:
    authority, ada = new_person("ecdsa-sha2-nistp256"), new_person()
    (tmp_path / "keys").write_text(authority.line("cert-authority"))
    certified(tmp_path, authority, ada, "-n", "web")

    async with server() as running:
        good = await openssh(running, tmp_path, "/web")
        bad = await openssh(running, tmp_path, "/api")

    assert "may not publish" not in good
    assert "your key may not publish api" in bad


async def openssh(running: RunningServer, folder: Path, name: str) -> str:
    """Return what a real client prints that asks for a tunnel and for ``tunnel-url``, which ends at once."""
    process = await asyncio.create_subprocess_exec(
        ssh, "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
        "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "LogLevel=ERROR", "-i", str(folder / "id"),
        "-p", str(running.ssh_port), "-R", f"{name}:localhost:9", "env@127.0.0.1", "tunnel-url", name.strip("/"),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(LIMIT):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output
    return output.decode()
