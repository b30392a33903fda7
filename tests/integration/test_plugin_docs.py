"""The examples for plugin authors do what is said of them: each is loaded from its file into a real server."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from aiohttp import web

from tunnel_server import ForwardRequest, Thumbprint
from tunnel_server.adapters.plugins.certificates import may_order
from tunnel_server.adapters.plugins.hooks import NAMES
from tunnel_server.adapters.plugins.registered import dns_challenge
from tunnel_server.app.scaffold import create
from tunnel_server.domain.errors import InvalidPlugin, InvalidSetting
from tunnel_server.testing import App, Refused, RunningServer, run_server, until

DOCS = Path(__file__).parents[2] / "docs/plugins"
FILE = re.compile(r"^```python\n# (\w+)\.py\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTION = re.compile(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
REFERENCE = dict(SECTION.findall((DOCS / "reference.md").read_text()))
PAGES = [
    pytest.param(path, name, code, id=f"{path.stem}-{name}")
    for path in [DOCS / "tutorial.md", *sorted((DOCS / "how-to").glob("*.md"))]
    for name, code in FILE.findall(path.read_text())
    if not name.startswith("test_")
]
TESTS = [
    pytest.param(name, code, id=name)
    for path in sorted((DOCS / "how-to").glob("*.md"))
    for name, code in FILE.findall(path.read_text())
    if name.startswith("test_")
]
CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LIMIT = 100  # seconds for a process of its own
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}

Run = Callable[..., AbstractAsyncContextManager[RunningServer]]


@pytest.fixture
def run_with(tmp_path: Path) -> Callable[[str, str], Run]:
    """Return what writes a plugin's file, and gives what runs a server with it."""

    def write(name: str, code: str) -> Run:
        folder = tmp_path / "plugins"
        folder.mkdir()
        (folder / f"{name}.py").write_text(code)

        @asynccontextmanager
        async def run(**settings: object) -> AsyncIterator[RunningServer]:
            async with run_server(settings={"plugins_dir": folder, **settings}, folder=tmp_path) as server:
                yield server
            assert [event for event in server.log if event["event"] == "plugin.failed"] == []

        return run

    return write


@pytest.mark.parametrize("hook", NAMES)
async def test_the_example_of_a_hook_does_what_is_said(
    run_with: Callable[[str, str], Run], hook: str, tmp_path: Path
) -> None:
    [(name, code)] = FILE.findall(REFERENCE[hook])

    await globals()[f"check_{hook}"](run_with(name, code), tmp_path)


@pytest.mark.parametrize(("page", "name", "code"), PAGES)
async def test_the_plugin_of_a_page_does_what_is_said(
    run_with: Callable[[str, str], Run], page: Path, name: str, code: str, tmp_path: Path
) -> None:
    await globals()[f"check_{name}"](run_with(name, code), tmp_path)


def in_pytest(folder: Path, **environ: str) -> str:
    """Return what pytest says of the tests in ``folder``, run by a process of its own with warnings as errors."""
    words = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto"]
    done = subprocess.run(
        words, cwd=folder, env=ENVIRONMENT | environ, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(("name", "code"), TESTS)
def test_the_tests_of_a_page_pass(tmp_path: Path, name: str, code: str) -> None:
    (tmp_path / f"{name}.py").write_text(code)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")

    said = in_pytest(tmp_path)

    assert f"{code.count('def test_')} passed" in said, said


def test_what_the_tutorial_adds_to_a_new_plugin_works(tmp_path: Path) -> None:
    hook, test, _ = CODE.findall((DOCS / "tutorial.md").read_text())
    made = create("my-policy", tmp_path)
    with (made / "src/tunnel_server_my_policy/plugin.py").open("a") as plugin:
        plugin.write("\n" + hook)
    with (made / "tests/test_my_policy.py").open("a") as tests:
        tests.write("\n\n" + test)
    information = made / "src/tunnel_server_my_policy-0.1.0.dist-info"  # as an installation in place makes it
    information.mkdir()
    project = tomllib.loads((made / "pyproject.toml").read_text())["project"]
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n")
    [[name, target]] = project["entry-points"]["tunnel_server"].items()
    (information / "entry_points.txt").write_text(f"[tunnel_server]\n{name} = {target}\n")

    said = in_pytest(made, PYTHONPATH=str(made / "src"))

    assert "5 passed" in said, said


# What each example of the reference does, by its hook


async def check_register_settings(run: Run, folder: Path) -> None:
    async with run(short_names_longest=30):
        pass
    with pytest.raises(InvalidSetting, match=r"short_names_longest.*1 to 63"):
        async with run(short_names_longest=0):
            pass


async def check_configure(run: Run, folder: Path) -> None:
    async with run(name_length_least=3) as server:
        async with server.tunnel(name="/web") as web_tunnel:
            assert (await web_tunnel.get()).status == 200
        with pytest.raises(Refused, match="a name has 3 to 20 characters here"):
            async with server.tunnel(name="/ab"):
                pass
    with pytest.raises(InvalidPlugin, match="name_length_least is more than name_length_most"):
        async with run(name_length_least=9, name_length_most=8):
            pass


async def check_register_commands(run: Run, folder: Path) -> None:
    async with run() as server, server.tunnel() as tunnel:
        said = await tunnel.client.run("whoami")
        failed = await tunnel.client.run("whoami now")

    assert said.stdout == f"{tunnel.tunnel.client.id} from 127.0.0.1 with 1 tunnels\n"
    assert (failed.exit_status, failed.stderr) == (2, "whoami takes no words\n")


async def check_register_routes(run: Run, folder: Path) -> None:
    async with run() as server, server.tunnel():
        answer = await server.get("api.tunnels.test", "/count")
        elsewhere = await server.get("tunnels.test", "/count")

    assert answer.json() == {"tunnels": 1}
    assert elsewhere.status == 404


async def check_register_metrics(run: Run, folder: Path) -> None:
    async with run() as server:
        async with server.tunnel():
            await until(lambda: server.metric("opened_by_access_total", access="public") == 1)

        assert server.metric("opened_by_access_total", access="private") == 0


async def check_dns_challenge(run: Run, folder: Path) -> None:
    program, told = folder / "nsupdate", folder / "told"
    program.write_text(f'#!/bin/sh\necho "$@" >>{told}\ncat >>{told}\n')
    program.chmod(0o700)
    async with run(nsupdate_challenge_program=program, nsupdate_challenge_key_file="/etc/tsig.key") as server:
        offered = dns_challenge(server.container.hooks())
        assert offered is not None
        await offered.publish("_acme-challenge.example.com", "abc")
        await offered.remove("_acme-challenge.example.com", "abc")

    assert told.read_text().splitlines() == [
        "-k /etc/tsig.key",
        'update add _acme-challenge.example.com. 60 TXT "abc"',
        "send",
        "-k /etc/tsig.key",
        'update delete _acme-challenge.example.com. TXT "abc"',
        "send",
    ]


async def check_startup(run: Run, folder: Path) -> None:
    async with run(closing_time_after="0.2s") as server, server.ssh() as client:
        await client.forward_remote_path_to_port("/web", "127.0.0.1", 1)
        await until(lambda: server.server.tunnels() == [])

        assert [event["request"] for event in server.log if event["event"] == "tunnel.opened"] == ["/web"]
        assert len(server.server.clients()) == 1


async def check_shutdown(run: Run, folder: Path) -> None:
    file = folder / "tally"
    async with run(tally_file=file) as server, server.tunnel() as tunnel:
        await tunnel.get("/a")
        await tunnel.get("/b")

    assert file.read_text() == f"{tunnel.tunnel.label} 2\n"


async def check_authenticate_client(run: Run, folder: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with run(staff_only_keys=key.get_fingerprint()) as server:
        async with server.tunnel(key=key) as tunnel:
            noted = dict(tunnel.tunnel.client.attributes)
        with pytest.raises(Refused, match="your key is not on the list of this server"):
            async with server.ssh():
                pass

    assert noted == {"staff-only.fingerprint": key.get_fingerprint()}


async def check_name_tunnel(run: Run, folder: Path) -> None:
    async with run() as server, server.tunnel(username="anna") as tunnel:
        assert tunnel.host == "web-anna.tunnels.test"
        assert (await tunnel.get()).status == 200
        with pytest.raises(Refused):
            async with server.tunnel(username="anna"):
                pass


async def check_authorize_tunnel(run: Run, folder: Path) -> None:
    async with run() as server:
        async with server.tunnel(name="/web") as private, server.tunnel(name="/demo-1") as public:
            assert (await public.get()).status == 200
            assert (await private.get()).status != 200
            assert str(private.tunnel.request.access) == "private"


async def check_tunnel_opened(run: Run, folder: Path) -> None:
    said: list[Any] = []

    async def chat(request: web.Request) -> web.Response:
        said.append(await request.json())
        return web.Response()

    async with App(chat) as app, run(announce_url=f"http://127.0.0.1:{app.port}/hook") as server:
        async with server.tunnel(username="anna") as tunnel:
            await until(lambda: said)

    assert said == [{"text": f"anna opened http://{tunnel.host}/"}]


async def check_tunnel_closed(run: Run, folder: Path) -> None:
    async with run() as server:
        async with server.tunnel() as tunnel:
            pass
        [event] = await until(lambda: [event for event in server.log if event["event"] == "log-lifetimes.closed"])

    assert event["label"] == tunnel.tunnel.label
    assert 0 <= event["seconds"] < 10


async def check_guard_tunnel(run: Run, folder: Path) -> None:
    name = ForwardRequest("", "web", meta={"password": "open sesame"}).format()
    right = {"Authorization": "Basic " + base64.b64encode(b"guest:open sesame").decode()}
    wrong = {"Authorization": "Basic " + base64.b64encode(b"guest:please").decode()}
    async with run() as server, server.tunnel(name=name) as guarded, server.tunnel(name="/open") as other:
        stranger, guest = await guarded.get(headers=wrong), await guarded.get(headers=right)

        assert (await other.get()).status == 200
    assert "meta=eyJwYXNzd29yZCI6ICJvcGVuIHNlc2FtZSJ9" in name
    assert (stranger.status, stranger.headers["WWW-Authenticate"]) == (401, 'Basic realm="tunnel"')
    assert guest.status == 200
    assert "authorization" not in guest.json()["headers"]


async def check_authorize_request(run: Run, folder: Path) -> None:
    async with run() as server, server.tunnel() as tunnel:
        robot = await tunnel.get(headers={"User-Agent": "SomeBot/1.0"})
        person = await tunnel.get(headers={"User-Agent": "Mozilla/5.0"})

    assert (robot.status, person.status) == (403, 200)
    assert "Robots are not served here." in robot.text


async def check_transform_request_headers(run: Run, folder: Path) -> None:
    async with run() as server, server.tunnel() as tunnel:
        answer = await tunnel.get(headers={"X-Tunnel-Owner": "me"})

    assert answer.json()["headers"]["x-tunnel-owner"] == str(tunnel.tunnel.client.id)


async def check_transform_response_headers(run: Run, folder: Path) -> None:
    async with run() as server, server.tunnel() as tunnel:
        answer = await tunnel.get()

    assert answer.headers.getall("X-Robots-Tag") == ["noindex"]


async def check_request_finished(run: Run, folder: Path) -> None:
    async def broken(request: web.Request) -> web.Response:
        return web.Response(status=503)

    async with run() as server, server.tunnel(broken) as tunnel:
        await tunnel.get("/page")
        [event] = await until(lambda: [event for event in server.log if event["event"] == "server-errors.seen"])

    assert (event["label"], event["path"], event["status"]) == (tunnel.tunnel.label, "/page", 503)


async def check_prove_domain(run: Run, folder: Path) -> None:
    async with run(listed_domains_domains="example.com") as server:
        asked = may_order(server.container.hooks().of("prove_domain"), server.container.calls(), ".tunnels.test")

        assert await asked("app.example.com")
        assert not await asked("app.example.org")
        assert not await asked("badexample.com")


# What the plugins of other pages do, by their names


async def check_robots(run: Run, folder: Path) -> None:
    await check_transform_response_headers(run, folder)


async def check_office_only(run: Run, folder: Path) -> None:
    async with run(office_only_networks="127.0.0.0/8") as server, server.ssh():
        pass
    async with run(office_only_networks="10.0.0.0/8") as server:
        with pytest.raises(Refused, match="log in from the office, please"):
            async with server.ssh():
                pass


async def check_company_names(run: Run, folder: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    hosts = f"{Thumbprint.from_public_key(key.public_data)}=app.example.com"
    async with run(company_names_hosts=hosts) as server:
        async with server.tunnel(key=key) as tunnel, server.tunnel() as usual:
            assert tunnel.host == "app.example.com"
            assert (await server.get("www.app.example.com")).status == 200
            assert usual.host == f"web-{usual.tunnel.client.id}.tunnels.test"
        with pytest.raises(Refused, match=r"only /web is published at app\.example\.com"):
            async with server.tunnel(name="/other", key=key):
                pass
    with pytest.raises(InvalidSetting, match="is not thumbprint=host"):
        async with run(company_names_hosts="app.example.com"):
            pass


async def check_read_only(run: Run, folder: Path) -> None:
    name = "/web#meta=eyJyZWFkT25seSI6dHJ1ZX0"
    async with run() as server, server.tunnel(name=name) as guarded, server.tunnel(name="/open") as other:
        refused = await guarded.get(method="POST", body=b"x")

        assert (await guarded.get()).status == 200
        assert (await other.get(method="POST", body=b"x")).status == 200
    assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")


async def check_ask_directory(run: Run, folder: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    known = str(Thumbprint.from_public_key(key.public_data))

    async def directory(request: web.Request) -> web.Response:
        return web.Response(status=200 if known in request.path else 404)

    async with App(directory) as app, run(ask_directory_url=f"http://127.0.0.1:{app.port}/keys/") as server:
        async with server.ssh(key), server.ssh(key):
            pass
        asked = list(app.paths)
        with pytest.raises(Refused, match="the directory does not know your key"):
            async with server.ssh():
                pass

    assert asked == [f"/keys/{known}"]


async def check_banned_keys(run: Run, folder: Path) -> None:
    file = folder / "banned"
    file.write_text("")
    async with run(banned_keys_file=file, banned_keys_pause="0.1s") as server, server.tunnel() as tunnel:
        file.write_text(f"{tunnel.tunnel.client.thumbprint}\n")
        await until(lambda: server.server.clients() == [])

        assert (await tunnel.get()).status == 502


async def check_visits(run: Run, folder: Path) -> None:
    async with run() as server, server.tunnel() as tunnel:
        await tunnel.get()
        await until(lambda: server.metric("visits_total", outcome="answered") == 1)

        assert server.metric("visits_answer_bytes_count") == 1


async def check_list_tunnels(run: Run, folder: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with run() as server:
        async with server.tunnel(key=key) as mine, server.ssh(key) as client, server.tunnel() as other:
            listed = await client.run("list")
            refused = await client.run(f"close {other.tunnel.label}")
            closed = await client.run(f"close {mine.tunnel.label}")
            await until(lambda: server.server.tunnels() == [other.tunnel])

    assert listed.stdout == f"http://{mine.host}/\n"
    assert (refused.exit_status, "usage: close LABEL" in str(refused.stderr)) == (1, True)
    assert closed.stdout == f"closed {mine.tunnel.label}\n"


async def check_operators_page(run: Run, folder: Path) -> None:
    async with run(operators_page_token="secret") as server, server.tunnel(username="anna") as tunnel:
        path, host = "/operators/tunnels", "api.tunnels.test"
        seen = await server.get(host, path, {"Authorization": "Bearer secret"})
        stranger = await server.get(host, path)

        assert (await tunnel.get(path)).json()["path"] == path  # a tunnel's host is not the server's
    assert seen.json() == [{"label": tunnel.tunnel.label, "user": "anna"}]
    assert stranger.status == 401
