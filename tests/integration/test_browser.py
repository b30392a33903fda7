"""What a hostile app can do in a real browser to who is signed in to a private tunnel of somebody else: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import asyncssh
import pytest
from certs import make_pair
from joserfc import jwt
from joserfc.jwk import OKPKey
from rig import Rig, Service, need, plain
from websockets.asyncio.client import ClientConnection, connect

from tunnel_server import Thumbprint

START = 60.0  # seconds that a browser may take to start, or a page to load, on a busy machine
BASE = "https://tunnels.test"


@pytest.fixture
def lean_ssh() -> bool:
    """How packets are handled is nothing to a browser."""
    return True


class Browser:
    """Headless Chromium, driven by its DevTools protocol. All host names lead to ``port`` on this machine."""

    def __init__(self, folder: Path, port: int) -> None:
        self._words = [
            need("chromium"), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
            "--no-proxy-server", f"--host-resolver-rules=MAP * 127.0.0.1:{port}", "--ignore-certificate-errors",
            "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank",
        ]  # fmt: skip
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._loaded = asyncio.Event()
        self._session = ""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        self._tasks: list[asyncio.Task[Any]] = []
        try:
            async with asyncio.timeout(START):
                self._wire: ClientConnection = await connect(await self._address(), max_size=None, proxy=None)
                self._tasks.append(asyncio.create_task(self._read()))
                await self._open_page()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *error: Any) -> None:
        if self._process.returncode is None:
            if self._session:
                # Asked to go, it takes its own processes along.
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(10):
                        await self._call("Browser.close", session="")
            else:
                self._process.kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session:
            await self._wire.close()
        try:
            async with asyncio.timeout(10):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _address(self) -> str:
        assert self._process.stderr is not None
        while line := (await self._process.stderr.readline()).decode():
            if found := re.search(r"DevTools listening on (ws://\S+)", line):
                # What it says later is read, or it would stand still one day.
                self._tasks.append(asyncio.create_task(self._process.stderr.read()))
                return found[1]
        raise AssertionError("the browser did not start")

    async def _read(self) -> None:
        async for text in self._wire:
            message = json.loads(text)
            if message.get("method") == "Page.loadEventFired":
                self._loaded.set()
            if (future := self._answers.pop(message.get("id", 0), None)) is not None and not future.done():
                future.set_result(message)

    async def _call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session is None:
            message["sessionId"] = self._session
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._wire.send(json.dumps(message))
        async with asyncio.timeout(START):
            answer = await self._answers[number]
        assert "error" not in answer, answer
        return answer["result"]

    async def _open_page(self) -> None:
        target = (await self._call("Target.createTarget", session="", url="about:blank"))["targetId"]
        attached = await self._call("Target.attachToTarget", session="", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        await self._call("Page.enable")
        await self._call("Network.enable")

    async def visit(self, url: str) -> str:
        """Go to a page and return its text, once it has loaded."""
        self._loaded.clear()
        went = await self._call("Page.navigate", url=url)
        assert "errorText" not in went, went
        async with asyncio.timeout(START):
            await self._loaded.wait()
        text: str = await self.run("document.body.innerText")
        return text

    async def run(self, script: str) -> Any:
        """Return what a script of the page gives, waited for."""
        answer = await self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def cookies(self, url: str) -> list[dict[str, Any]]:
        """Return the cookies that would be sent to ``url``, those that scripts do not see among them."""
        found: list[dict[str, Any]] = (await self._call("Network.getCookies", urls=[url]))["cookies"]
        return found

    async def have(self, name: str, value: str) -> None:
        """Have a cookie for the base host and all below, as a login service there sets it."""
        await self._call(
            "Network.setCookie",
            name=name,
            value=value,
            domain=".tunnels.test",
            secure=True,
            httpOnly=True,
            sameSite="None",
        )


class Town:
    """A server with a private tunnel, a public one and a hostile one; each app remembers the heads it got."""

    def __init__(self, rig: Rig, browser: Browser) -> None:
        self.rig, self.browser = rig, browser
        self.owner = asyncssh.generate_private_key("ssh-ed25519")
        self.thumbprint = str(Thumbprint.from_public_key(self.owner.public_data))
        self.heads: dict[str, list[str]] = {"private": [], "open": [], "evil": []}
        self.urls: dict[str, str] = {}
        self.labels: dict[str, str] = {}

    def app(self, name: str, *fields: str) -> Service:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                self.heads[name].append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
                writer.write(plain(f"the {name} app".encode(), "Content-Type: text/html", *fields))
                await writer.drain()

        return Service(handle)

    @asynccontextmanager
    async def publish(self, key: asyncssh.SSHKey, name: str, port: int, more: str = "") -> AsyncIterator[None]:
        async with self.rig.client(key=key) as connection:
            await connection.forward_remote_path_to_port(f"/{name}{more}", "127.0.0.1", port)
            self.urls[name] = json.loads((await connection.run(f"tunnel-url {name}")).stdout)[name]
            self.labels[name] = self.urls[name].split("/")[2].partition(".")[0]
            yield

    async def sign_in(self) -> None:
        """Visit the private tunnel with a token; the browser has a session afterwards."""
        now = int(time.time())
        token = jwt.encode(
            {"alg": "Ed25519"},
            {"iss": f"preevy://{self.thumbprint}", "iat": now, "exp": now + 3600},
            OKPKey.import_key(self.owner.export_private_key("pkcs8-pem")),
            algorithms=["Ed25519"],
        )
        await self.browser.have("preevy-saas-jwt", token)
        assert await self.browser.visit(self.urls["private"]) == "the private app"

    @property
    def session(self) -> str:
        return f"preevy-{self.thumbprint}"


HOSTILE = (
    "Set-Cookie: for-all=1; Domain=tunnels.test; Path=/",
    "Set-Cookie: for-the-parent=1; Domain=test; Path=/",
    "Set-Cookie: for-me=1; Path=/",
    "Set-Cookie: preevy-saas-jwt=planted; Domain=tunnels.test; Path=/; Secure; HttpOnly",
)


@pytest.fixture
async def town(make_rig: Callable[..., Any], tmp_path: Path) -> AsyncIterator[Town]:
    need("chromium")
    pair = make_pair(tmp_path, "tunnels.test", "*.tunnels.test")
    async with make_rig(tls_cert_file=str(pair.cert), tls_key_file=str(pair.key), base_url=BASE) as rig:
        async with Browser(tmp_path / "profile", rig.tls.port) as browser:
            town = Town(rig, browser)
            async with town.app("private") as private, town.app("open") as public, town.app("evil", *HOSTILE) as evil:
                hostile = asyncssh.generate_private_key("ssh-ed25519")
                async with (
                    town.publish(town.owner, "private", private.port, "#access=private"),
                    town.publish(hostile, "open", public.port),
                    town.publish(hostile, "evil", evil.port),
                ):
                    yield town


async def test_a_visitor_signs_in_and_has_a_session_that_scripts_do_not_see(town: Town) -> None:
    await town.sign_in()

    (session,) = [entry for entry in await town.browser.cookies(town.urls["private"]) if entry["name"] == town.session]
    assert session["secure"] and session["httpOnly"] and session["sameSite"] == "None"
    assert session["domain"] == ".tunnels.test"
    assert await town.browser.run("document.cookie") == ""


async def test_our_cookies_reach_no_app_and_no_script_of_one(town: Town) -> None:
    await town.sign_in()

    assert await town.browser.visit(town.urls["evil"]) == "the evil app"
    seen = await town.browser.run("document.cookie")
    await town.browser.run("fetch('/more', {credentials: 'include'}).then(answer => answer.text())")

    # The browser did send it.
    assert town.session in {entry["name"] for entry in await town.browser.cookies(town.urls["evil"])}
    assert "preevy-" not in seen
    assert len(town.heads["evil"]) >= 2
    assert all("preevy-" not in head for heads in town.heads.values() for head in heads)


FETCH = "fetch(%r, {credentials: 'include'}).then(answer => answer.text()).catch(error => 'failed: ' + error.name)"


async def test_a_hostile_app_cannot_read_a_private_one(town: Town) -> None:
    await town.sign_in()
    await town.browser.visit(town.urls["evil"])

    read = await town.browser.run(FETCH % town.urls["private"])

    assert read == "failed: TypeError"


async def test_a_hostile_app_served_by_path_cannot_read_a_private_one_by_path(town: Town) -> None:
    await town.sign_in()
    before = len(town.heads["private"])

    page = await town.browser.visit(f"{BASE}/proxy/{town.labels['evil']}/")
    read = await town.browser.run(FETCH % f"/proxy/{town.labels['private']}/")
    seen = await town.browser.run("document.cookie")
    framed = await town.browser.run(
        "new Promise(done => { const frame = document.createElement('iframe');"
        f" frame.src = '/proxy/{town.labels['private']}/';"
        " frame.onload = () => { try { done(frame.contentDocument.body.innerText) }"
        " catch (error) { done('failed: ' + error.name) } };"
        " document.body.append(frame) }).then(text => text === null ? 'failed' : text)"
        ".catch(error => 'failed: ' + error.name)"
    )

    assert page == "the evil app"
    assert read == "failed: TypeError"
    assert "preevy-" not in seen
    assert framed.startswith("failed")
    assert all("preevy-" not in head for head in town.heads["private"][before:] + town.heads["evil"])


async def test_what_a_hostile_app_puts_into_the_browser_ends_no_session(town: Town) -> None:
    await town.sign_in()
    await town.browser.visit(town.urls["evil"])

    for name in (town.session, "preevy-saas-jwt"):
        for path in ("/", "/a"):
            await town.browser.run(f"document.cookie = '{name}=planted; domain=tunnels.test; path={path}; secure'")

    # It did put something there, of both names.
    sent = await town.browser.cookies(town.urls["private"] + "a")
    assert {entry["name"] for entry in sent if entry["value"] == "planted"} == {town.session, "preevy-saas-jwt"}
    assert await town.browser.visit(town.urls["private"]) == "the private app"
    assert await town.browser.visit(town.urls["private"] + "a") == "the private app"


async def test_a_cookie_of_an_app_for_all_hosts_is_its_own(town: Town) -> None:
    await town.browser.visit(town.urls["evil"])
    await town.browser.visit(town.urls["evil"])
    await town.browser.visit(town.urls["open"])

    assert "for-all=1" in town.heads["evil"][-1] and "for-me=1" in town.heads["evil"][-1]
    assert all("cookie:" not in head.lower() for head in town.heads["open"])
    assert await town.browser.cookies(town.urls["open"]) == []
    assert await town.browser.cookies(BASE) == []
    assert {entry["name"] for entry in await town.browser.cookies(town.urls["evil"])} == {
        "for-all",
        "for-me",
        "for-the-parent",
    }
