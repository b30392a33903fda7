"""What plugin authors test with, and the project that is made for them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tunnel_server import Accept, Client, ForwardRequest, Refuse, Reject, Request, Tunnel, hookimpl
from tunnel_server.app.scaffold import create
from tunnel_server.domain.errors import InvalidPlugin, InvalidSetting
from tunnel_server.testing import App, Refused, run_server, until

pytest_plugins = ["tunnel_server.testing"]

Run = Callable[..., Any]
PROJECT_LIMIT = 100  # seconds
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}


class Picky:
    """Refuses one of each."""

    @hookimpl
    def authenticate_client(self, client: Client) -> Accept | Reject:
        return Reject("not you") if client.user == "mallory" else Accept({"picky.user": client.user})

    @hookimpl
    def authorize_tunnel(self, request: ForwardRequest) -> Reject | None:
        return Reject("not that") if request.name == "bad" else None

    @hookimpl
    def authorize_request(self, request: Request) -> Refuse | None:
        if request.path == "/crash":
            raise RuntimeError("oops")
        return Refuse(418, "no tea") if request.path == "/tea" else None


async def test_a_tunnel_leads_to_a_service_that_echoes(tunnel_server: Run) -> None:
    async with tunnel_server() as server, server.tunnel() as tunnel:
        answer = await tunnel.get("/a?b=%20c", {"X-One": "1"}, method="POST", body=b"text")

    assert answer.status == 200
    echo = answer.json()
    assert (echo["method"], echo["path"], echo["body"]) == ("POST", "/a?b=%20c", "text")
    assert (echo["headers"]["x-one"], echo["headers"]["host"]) == ("1", tunnel.host)


async def test_a_tunnel_leads_to_a_service_of_the_tests_own(tunnel_server: Run) -> None:
    async with App() as app, tunnel_server() as server:
        async with server.tunnel(app) as by_app, server.tunnel(app.port, name="/other") as by_port:
            await by_app.get("/1")
            await server.get(by_port.host, "/2")

    assert app.paths == ["/1", "/2"]


async def test_who_is_refused_is_given_the_reason(tunnel_server: Run) -> None:
    async with tunnel_server([Picky]) as server:
        with pytest.raises(Refused) as client:
            async with server.ssh(username="mallory"):
                pass
        with pytest.raises(Refused) as tunnel:
            async with server.tunnel(name="/bad"):
                pass

    assert client.value.reason == "not you"
    assert tunnel.value.reason == "forward /bad refused: not that"


async def test_a_plugin_may_be_a_class_an_object_or_a_module(tunnel_server: Run, tmp_path: Path) -> None:
    from tunnel_server.house import accept_any_key as module

    async with tunnel_server([Picky()], settings={"plugins": "reserved-names"}) as server:
        async with server.tunnel() as tunnel:
            assert (await tunnel.get("/tea")).status == 418
    with pytest.raises(InvalidPlugin, match="accept-any-key"):  # it is there already
        async with tunnel_server([module]):
            pass


async def test_settings_are_read_as_in_the_settings_file(tunnel_server: Run) -> None:
    async with tunnel_server(settings={"base_url": "http://other.test", "reserved_names": ["web-*"]}) as server:
        with pytest.raises(Refused, match="reserved"):
            async with server.tunnel():
                pass
        assert (await server.get("other.test", "/healthz")).text == "OK"
    with pytest.raises(InvalidSetting, match="did you mean TUNNEL_SERVER_RESERVED_NAMES"):
        async with tunnel_server(settings={"reserved_name": "web"}):
            pass


async def test_a_plugin_that_is_not_installed_is_named(tunnel_server: Run) -> None:
    with pytest.raises(InvalidPlugin, match="there is no plugin my-missing"):
        async with tunnel_server(["my-missing"]):
            pass


async def test_failures_of_a_plugin_are_in_the_log_and_in_the_metrics(tunnel_server: Run) -> None:
    async with tunnel_server([Picky]) as server, server.tunnel() as tunnel:
        assert (await tunnel.get("/crash")).status == 503

        [failure] = [event for event in server.log if event["event"] == "plugin.failed"]
        counted = server.metric("tunnel_server_plugin_failures_total", plugin="picky", kind="raised")

    assert (failure["plugin"], failure["hook"], failure["level"]) == ("picky", "authorize_request", "error")
    assert str(failure["exc_info"]) == "oops"
    assert counted == 1
    assert "tunnel_server_plugin_failures_total{" in server.metrics()


async def test_the_hook_server_is_there(tunnel_server: Run) -> None:
    async with tunnel_server([Picky]) as server:
        assert server.server.base.root_url == "http://tunnels.test/"
        async with server.ssh(username="anna"):
            [client] = server.server.clients()
            assert client.attributes == {"picky.user": "anna"}
            server.server.disconnect(client, "bye")
            await until(lambda: server.server.clients() == [])


async def test_the_same_key_has_the_same_tunnel_again(tunnel_server: Run) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with tunnel_server() as server:
        async with server.tunnel(key=key) as first:
            pass
        async with server.tunnel(key=key) as second, server.tunnel(name="/x", key=key) as other:
            assert (first.host, first.tunnel is second.tunnel) == (second.host, False)
            assert server.server.of_profile(str(first.tunnel.client.thumbprint)) == [second.tunnel, other.tunnel]


async def test_two_servers_run_beside_each_other(tunnel_server: Run) -> None:
    async with tunnel_server() as one, tunnel_server([Picky]) as two:
        async with one.tunnel(name="/bad") as tunnel:
            assert (await tunnel.get()).status == 200
            assert (await two.get(tunnel.host)).status == 502
        with pytest.raises(Refused):
            async with two.tunnel(name="/bad"):
                pass


async def test_it_works_without_the_fixture_and_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()

    async with run_server([Picky]) as server, server.tunnel() as tunnel:
        assert (await tunnel.get()).status == 200

    with pytest.raises(OSError, match=r"[Cc]onnect"):
        await asyncio.open_connection("127.0.0.1", server.http_port)
    assert asyncio.all_tasks() == before


def test_it_can_be_imported_where_there_is_no_pytest(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "import tunnel_server.testing as t; print(t.run_server.__name__, hasattr(t, 'tunnel_server'))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True)

    assert done.stdout == "run_server False\n", done.stderr


async def test_a_plugin_hears_of_the_stop_and_the_log_goes_on_until_then(tunnel_server: Run) -> None:
    ended: list[str] = []

    class Ends:
        @hookimpl
        def tunnel_closed(self, tunnel: Tunnel) -> None:
            ended.append(tunnel.label)

        @hookimpl
        async def shutdown(self) -> None:
            ended.append("shutdown")

    async with tunnel_server([Ends]) as server:
        async with server.tunnel() as tunnel:
            pass

    assert ended == [tunnel.tunnel.label, "shutdown"]


def test_until_gives_up() -> None:
    with pytest.raises(TimeoutError):
        asyncio.run(until(lambda: False, 0.02))


# the project of a new plugin


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A new project, and what an installation of it puts beside it."""
    made = create("my-policy", tmp_path)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*pip, "--target", tmp_path / "site", made],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PROJECT_LIMIT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return made


def run_tests_of(project: Path) -> subprocess.CompletedProcess[str]:
    """Run a project's tests with the installed plugin, warnings being errors."""
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    environment = ENVIRONMENT | {"PYTHONPATH": str(project.parent / "site")}
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=PROJECT_LIMIT, check=False
    )


def test_the_tests_of_a_new_plugin_pass_and_fail_once_it_is_broken(project: Path) -> None:
    good = run_tests_of(project)
    plugin = project.parent / "site/tunnel_server_my_policy/plugin.py"
    plugin.write_text(plugin.read_text().replace("return Reject(", "return None and Reject("))
    broken = run_tests_of(project)

    assert (good.returncode, "4 passed" in good.stdout) == (0, True), good.stdout + good.stderr
    assert broken.returncode == 1, broken.stdout
    assert "1 failed, 3 passed" in broken.stdout
