"""Private tunnels on a real server: real SSH keys sign the tokens, and visitors bring them."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncssh
import pytest
from certs import make_pair
from dependency_injector import providers
from joserfc import jwk, jwt
from joserfc.jws import JWSRegistry
from rig import Answer, Rig, Service, need, plain

from tunnel_server import Thumbprint, hookimpl
from tunnel_server.app.plugins import load
from tunnel_server.app.settings import Settings

BROWSER = "User-Agent: Mozilla/5.0 (X11; Linux x86_64)"
KEYS = [
    ("ssh-ed25519", "EdDSA"),
    ("ecdsa-sha2-nistp256", "ES256"),
    ("ecdsa-sha2-nistp384", "ES384"),
    ("ecdsa-sha2-nistp521", "ES512"),
    ("ssh-rsa", "RS256"),
    ("ssh-rsa", "PS256"),
]


@pytest.fixture
def lean_ssh() -> bool:
    """How packets are handled is nothing to visitors."""
    return True


class AnyAlgorithm(JWSRegistry):
    """Signs with whatever it is asked for."""

    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]


class Signer:
    """Owns a key of SSH."""

    def __init__(self, kind: str = "ssh-ed25519", algorithm: str = "EdDSA") -> None:
        self.key = asyncssh.generate_private_key(kind)
        self._algorithm = algorithm
        self._jwk = jwk.import_key(
            self.key.export_private_key("pkcs8-pem"),
            {"E": "EC", "R": "RSA", "P": "RSA"}[algorithm[0]] if algorithm != "EdDSA" else "OKP",
        )
        self.thumbprint = str(Thumbprint.from_public_key(self.key.public_data))

    @property
    def public_pem(self) -> str:
        return self._jwk.as_pem(private=False).decode()

    def token(self, **claims: Any) -> str:
        said = {"iss": f"preevy://{self.thumbprint}", "iat": time.time(), "exp": time.time() + 3600} | claims
        return jwt.encode({"alg": self._algorithm}, said, self._jwk, registry=AnyAlgorithm())


class Place:
    """A server with a private tunnel; the service behind it remembers the heads it got."""

    def __init__(self, rig: Rig, owner: Signer, service: Signer) -> None:
        self.rig, self.owner, self.service = rig, owner, service
        self.host, self.label = "", ""
        self.heads: list[str] = []

    def saas(self, *profiles: str, **claims: Any) -> str:
        return self.service.token(iss="service.test", sub="me", profiles=list(profiles), **claims)

    async def app(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
            writer.write(plain(b"the app"))
            await writer.drain()

    @asynccontextmanager
    async def publish(self, port: int, request: str, owner: Signer) -> AsyncIterator[str]:
        """Publish a local port; gives the Host of the tunnel."""
        async with self.rig.client(key=owner.key) as connection:
            await connection.forward_remote_path_to_port(request, "127.0.0.1", port)
            name = request.partition("#")[0]
            urls = json.loads((await connection.run(f"tunnel-url {name}")).stdout)
            yield urlsplit(urls[name]).hostname or ""

    async def get(self, path: str = "/", *fields: str, host: str = "", method: str = "GET") -> Answer:
        return await self.rig.get(host or self.host, path, *fields, method=method)

    async def follow(self, answer: Answer, *fields: str) -> Answer:
        """Ask for what ``answer`` points to."""
        url = urlsplit(answer.field("location") or "")
        assert url.hostname
        return await self.rig.get(url.netloc, url.path + (f"?{url.query}" if url.query else ""), *fields)


class HouseRig(Rig):
    """A rig whose house plugins have settings."""

    def __init__(self, settings: Settings, folder: Path, environ: dict[str, str], *more: object) -> None:
        super().__init__(settings, folder)
        plugins = load({}, environ, None, more).start().plugins
        self.container.hooks.override(providers.Object(plugins))


@pytest.fixture
def make_place(tmp_path: Path) -> Callable[..., Any]:
    """Return a context manager that runs a server with a private tunnel; keywords are settings."""

    @asynccontextmanager
    async def make(
        owner: Signer | None = None, environ: dict[str, str] | None = None, *plugins: object, **settings: Any
    ) -> AsyncIterator[Place]:
        service = Signer("ecdsa-sha2-nistp256", "ES256")
        values = {
            "base_url": "http://tunnels.test:3000", "port": 0, "ssh_port": 0, "metrics_port": 0, "tls_port": 0,
            "listen_host": "127.0.0.1", "metrics_host": "127.0.0.1", "grace_period": 2.0,
            "ssh_host_key_path": str(tmp_path / "ssh" / "host_key"),
        }  # fmt: skip
        given = {
            "SAAS_PUBLIC_KEY": service.public_pem,
            "SAAS_JWT_ISSUER": "service.test",
            "SAAS_BASE_URL": "https://service.test",
        }
        async with AsyncExitStack() as stack:
            rig = await stack.enter_async_context(
                HouseRig(Settings(**(values | settings)), tmp_path, given | (environ or {}), *plugins)
            )
            place = Place(rig, owner or Signer(), service)
            app = await stack.enter_async_context(Service(place.app))
            place.host = await stack.enter_async_context(place.publish(app.port, "/web#access=private", place.owner))
            place.label = place.host.partition(".")[0]
            yield place

    return make


@pytest.fixture
async def place(make_place: Callable[..., Any]) -> AsyncIterator[Place]:
    async with make_place() as running:
        yield running


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def basic(token: str) -> str:
    return "Authorization: Basic " + b64encode(f"x-preevy-profile-key:{token}".encode()).decode()


def cookie(answer: Answer) -> str:
    """Return the Cookie field that a browser sends after ``answer``."""
    return "Cookie: " + (answer.field("set-cookie") or "").partition(";")[0]


@pytest.mark.parametrize(("kind", "algorithm"), KEYS)
async def test_the_owners_key_signs_tokens(make_place: Any, kind: str, algorithm: str) -> None:
    owner = Signer(kind, algorithm)

    async with make_place(owner) as place:
        answer = await place.get("/", bearer(owner.token()))

        assert (answer.status, answer.body) == (200, b"the app")
        assert "authorization" not in place.heads[0].lower()


async def test_a_token_as_password_passes_and_the_app_does_not_see_it(place: Place) -> None:
    answer = await place.get("/", basic(place.owner.token()))

    assert answer.status == 200
    assert "authorization" not in place.heads[0].lower()


async def test_what_is_meant_for_the_app_is_passed_on_beside_a_session(place: Place) -> None:
    session = cookie(await place.get("/", basic(place.owner.token()), BROWSER))

    await place.get("/", session, "Authorization: Bearer of-the-app")

    assert "Bearer of-the-app" in place.heads[0]


async def test_a_browser_signs_in_by_password_and_comes_back(place: Place) -> None:
    asked = await place.get("/a?b=c&_preevy_auth_hint=basic", BROWSER)
    known = await place.get("/a?b=c&_preevy_auth_hint=basic", BROWSER, basic(place.owner.token()))
    login = await place.follow(known, BROWSER, cookie(known))
    back = await place.follow(login, BROWSER, cookie(login))

    assert (asked.status, asked.field("www-authenticate")) == (401, 'Basic realm="Secure Area"')
    assert known.status == 307
    assert login.status == 302
    assert login.field("location") == f"http://{place.label}.tunnels.test:3000/a?b=c"
    assert (back.status, back.body) == (200, b"the app")
    assert place.heads[0].startswith("GET /a?b=c HTTP/1.1\r\n")


async def test_a_browser_is_sent_to_the_login_service_and_comes_back_with_its_token(place: Place) -> None:
    first = await place.get("/a?b=%20", BROWSER)
    login = await place.follow(first, BROWSER)
    service = urlsplit(login.field("location") or "")
    (back_at_login,) = parse_qs(service.query)["redirectTo"]
    url = urlsplit(back_at_login)
    token = f"Cookie: preevy-saas-jwt={place.saas(place.owner.thumbprint)}"
    known = await place.rig.get(url.netloc, f"{url.path}?{url.query}", BROWSER, token)
    page = await place.follow(known, BROWSER, cookie(known))

    assert (first.status, login.status, known.status) == (307, 302, 302)
    assert (service.netloc, service.path) == ("service.test", "/api/auth/login")
    assert back_at_login == first.field("location")
    assert login.field("access-control-allow-origin") == "https://service.test"
    assert login.field("access-control-allow-credentials") == "true"
    assert known.field("location") == f"http://{place.label}.tunnels.test:3000/a?b=%20"
    assert page.body == b"the app"


async def test_our_cookies_do_not_reach_the_app_and_others_do(place: Place) -> None:
    session = cookie(await place.get("/", basic(place.owner.token()), BROWSER))

    answer = await place.get("/", f"{session}; mine=1; preevy-saas-jwt=x; other=2")

    assert answer.status == 200
    assert "preevy-" not in place.heads[0]
    assert "mine=1" in place.heads[0] and "other=2" in place.heads[0]


async def test_the_session_cookie_is_as_it_has_to_be(place: Place) -> None:
    answer = await place.get("/", basic(place.owner.token(exp=int(time.time()) + 100)), BROWSER)

    name_and_value, *attributes = (answer.field("set-cookie") or "").split("; ")
    assert name_and_value.startswith(f"preevy-{place.owner.thumbprint}=")
    assert {"Secure", "HttpOnly", "SameSite=None", "Domain=tunnels.test", "Path=/"} <= set(attributes)
    (age,) = [int(attribute.removeprefix("Max-Age=")) for attribute in attributes if attribute.startswith("Max-Age=")]
    assert 90 <= age <= 100


async def test_a_session_of_one_profile_opens_nothing_of_another(place: Place) -> None:
    hostile = Signer()
    session = cookie(await place.get("/", basic(place.owner.token()), BROWSER))
    async with Service(place.app) as app, place.publish(app.port, "/evil#access=private", hostile) as host:
        renamed = session.replace(place.owner.thumbprint, hostile.thumbprint)
        theirs = cookie(await place.get("/", basic(hostile.token()), BROWSER, host=host))

        assert (await place.get("/", session, host=host)).status == 307
        assert (await place.get("/", renamed, host=host)).status == 307
        assert (await place.get("/", theirs)).status == 307
        assert (await place.get("/", theirs, host=host)).status == 200


async def test_a_session_is_good_for_every_tunnel_of_its_profile(place: Place) -> None:
    session = cookie(await place.get("/", basic(place.owner.token()), BROWSER))
    async with (
        Service(place.app) as app,
        place.publish(app.port, "/more#access=private", place.owner) as host,
    ):
        assert (await place.get("/", session, host=host)).status == 200


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": time.time() - 1},
        {"nbf": time.time() + 3600},
        {"iss": "nobody"},
        {"iss": None},
        {"exp": "x"},
    ],
    ids=lambda claims: next(iter(claims)),
)
async def test_a_token_that_is_not_valid_is_refused(place: Place, claims: dict[str, Any]) -> None:
    token = place.owner.token(**claims)

    answers = [
        await place.get("/", field) for field in (bearer(token), basic(token), f"Cookie: preevy-saas-jwt={token}")
    ]

    assert [answer.status for answer in answers] == [400, 400, 400]


@pytest.mark.parametrize(
    "token", ["", "x", "...", "a.b.c", "\xff.\xff.\xff", "e30.e30.", "A" * 8000, "W1tbW1tb." * 2 + "x"]
)
async def test_garbage_is_refused(place: Place, token: str) -> None:
    answers = [
        await place.get("/", field) for field in (bearer(token), basic(token), f"Cookie: preevy-saas-jwt={token}")
    ]

    assert [answer.status for answer in answers] == [400, 400, 400]
    assert place.heads == []


async def test_a_guest_is_refused_and_an_admin_is_not(place: Place) -> None:
    assert (await place.get("/", bearer(place.saas()))).status == 401
    assert (await place.get("/", bearer(place.saas(place.owner.thumbprint)))).status == 200


async def test_a_guest_is_not_sent_around_in_circles(place: Place) -> None:
    token = f"Cookie: preevy-saas-jwt={place.saas()}"
    login = await place.get(f"/login?env={place.label}&returnPath=/", token, host="auth.tunnels.test")

    back = await place.follow(login, cookie(login))

    assert (login.status, back.status) == (302, 401)


async def test_a_preflight_passes_and_nothing_like_it(place: Place) -> None:
    preflight = ("Origin: https://a.test", "Access-Control-Request-Method: PUT")

    assert (await place.get("/", *preflight, method="OPTIONS")).status == 200
    assert (await place.get("/", preflight[0], method="OPTIONS")).status == 307
    assert (await place.get("/", preflight[1], method="OPTIONS")).status == 307
    assert (await place.get("/", *preflight)).status == 307


async def test_a_public_tunnel_stays_as_it_is(place: Place) -> None:
    async with Service(place.app) as app, place.publish(app.port, "/open", place.owner) as host:
        assert (await place.get("/", host=host)).status == 200


# The login page


@pytest.mark.parametrize("host", ["auth.tunnels.test", "api.tunnels.test:3000"])
async def test_the_login_page_wants_to_know_where_to(place: Place, host: str) -> None:
    missing = await place.get("/login?returnPath=/", host=host)
    unknown = await place.get("/login?env=nobody-1&returnPath=/", host=host)

    assert missing.status == 400
    assert (unknown.status, unknown.body.strip()) == (404, b"Unknown envId: nobody-1")


async def test_there_is_no_login_page_elsewhere(place: Place) -> None:
    assert (await place.get(f"/login?env={place.label}", host="tunnels.test")).status == 404


@pytest.mark.parametrize(
    "path",
    [
        "//evil.test", "/%5Cevil.test", "%5C%5Cevil.test", "https://evil.test", "/%2Fevil.test", "/%252Fevil.test",
        "/%0D%0AX: y", "/%09/evil.test", "/%00", "evil", "%20/", "javascript:alert(1)",
    ],
)  # fmt: skip
async def test_the_login_page_sends_nobody_elsewhere(place: Place, path: str) -> None:
    session = f"Authorization: Bearer {place.owner.token()}"
    path = path.replace(" ", "%20")

    answer = await place.get(f"/login?env={place.label}&returnPath={path}", session, host="auth.tunnels.test")

    assert answer.status == 400
    assert answer.field("location") is None


@pytest.mark.parametrize(
    ("path", "back"),
    [
        ("/", "/"),
        ("", "/"),
        ("/a%3Fb%3Dc%26d", "/a?b=c&d"),
        ("/%C3%A9%20", "/%C3%A9%20"),
        ("/%250d%250a", "/%0d%0a"),
        ("/.//x", "/.//x"),
    ],
)
async def test_whoever_is_signed_in_goes_back_to_the_path(place: Place, path: str, back: str) -> None:
    query = f"env={place.label}" + (f"&returnPath={path}" if path else "")

    answer = await place.get(f"/login?{query}", bearer(place.owner.token()), host="auth.tunnels.test")

    assert answer.status == 302
    assert answer.field("location") == f"http://{place.label}.tunnels.test:3000{back}"


async def test_a_hostile_host_field_has_no_say_in_where_to_come_back(place: Place) -> None:
    answer = await place.get(f"/login?env={place.label}&returnPath=/", host="auth.tunnels.test:31337")

    (back,) = parse_qs(urlsplit(answer.field("location") or "").query)["redirectTo"]
    assert urlsplit(back).netloc == "auth.tunnels.test:3000"


async def test_without_a_login_service_nobody_is_sent_there(make_place: Any) -> None:
    async with make_place(environ={"SAAS_BASE_URL": "", "SAAS_PUBLIC_KEY": ""}) as place:
        answer = await place.get(f"/login?env={place.label}&returnPath=/", host="auth.tunnels.test")

        assert answer.status == 401
        assert answer.field("access-control-allow-origin") is None


async def test_a_page_elsewhere_can_sign_nobody_in_as_somebody_else(place: Place) -> None:
    """Login CSRF: what others may put into a visitor's cookies opens nothing, and ends nothing."""
    hostile = Signer()
    session = cookie(await place.get("/", basic(place.owner.token()), BROWSER))
    planted = f"preevy-saas-jwt={hostile.token()}; preevy-{place.owner.thumbprint}=planted; "
    both = session.replace("Cookie: ", f"Cookie: {planted}")

    login = await place.get(f"/login?env={place.label}&returnPath=/", both, host="auth.tunnels.test")
    page = await place.get("/", both)
    alone = await place.get(f"/login?env={place.label}&returnPath=/", f"Cookie: {planted}", host="auth.tunnels.test")

    assert page.body == b"the app"
    assert cookie(login).partition("=")[0] == session.partition("=")[0]
    assert (await place.get("/", cookie(login))).status == 200
    assert (alone.field("location") or "").startswith("https://service.test/") and alone.field("set-cookie") is None


async def test_pages_of_the_login_service_may_ask_and_no_others(place: Place) -> None:
    path = f"/profiles/{place.owner.thumbprint}/tunnels"
    asking = "Access-Control-Request-Method: GET"

    answers = {
        origin: await place.get(path, f"Origin: {origin}", asking, host="api.tunnels.test", method="OPTIONS")
        for origin in ("https://service.test", "https://evil.test")
    }

    assert answers["https://service.test"].status == 204
    assert answers["https://service.test"].field("access-control-allow-headers") == "authorization"
    assert answers["https://evil.test"].field("access-control-allow-origin") is None


# Rotation of secrets


async def test_sessions_outlive_a_start_and_a_new_secret_until_the_old_one_goes(make_place: Any) -> None:
    owner = Signer()
    async with make_place(owner, {"COOKIE_SECRETS": "old"}) as place:
        session = cookie(await place.get("/", basic(owner.token()), BROWSER))
    statuses = []
    for secrets in ("old", "new old", "new"):
        async with make_place(owner, {"COOKIE_SECRETS": secrets}) as place:
            statuses.append((await place.get("/", session)).status)

    assert statuses == [200, 200, 307]


async def test_without_secrets_sessions_end_with_the_server(make_place: Any) -> None:
    owner = Signer()
    async with make_place(owner) as place:
        session = cookie(await place.get("/", basic(owner.token()), BROWSER))
    async with make_place(owner) as place:
        assert (await place.get("/", session)).status == 307


# Sessions of one host


async def test_on_localhost_sessions_are_the_tunnels_own(make_place: Any) -> None:
    async with make_place(base_url="http://localhost:3000") as place:
        first = await place.get("/a?b", basic(place.owner.token()), BROWSER)
        second = await place.follow(first, cookie(first), BROWSER)
        third = await place.follow(second, cookie(first), BROWSER)

        assert "Domain" not in (first.field("set-cookie") or "")
        assert second.field("location") == f"http://{place.label}.localhost:3000/a?b"
        assert third.body == b"the app"


async def test_a_login_service_reaches_hosts_with_sessions_of_their_own(make_place: Any) -> None:
    async with make_place(environ={"TUNNEL_SERVER_SESSION_SCOPE": "host"}) as place:
        token = f"Cookie: preevy-saas-jwt={place.saas(place.owner.thumbprint)}"
        login = await place.get(f"/login?env={place.label}&returnPath=/a%3Fb", token, BROWSER, host="auth.tunnels.test")
        arrived = await place.follow(login, BROWSER)
        clean = await place.follow(arrived, cookie(arrived), BROWSER)
        page = await place.follow(clean, cookie(arrived), BROWSER)

        assert (await place.get("/", cookie(login))).status == 307
        assert (login.status, arrived.status, clean.status) == (302, 307, 307)
        assert clean.field("location") == f"http://{place.label}.tunnels.test:3000/a?b"
        assert page.body == b"the app"
        assert "_preevy_session" not in place.heads[0]


class WholeHosts:
    """Names each tunnel as a plugin for custom domains does."""

    name = "whole-hosts"

    @hookimpl
    def name_tunnel(self) -> list[str]:
        return ["app.example.com", "*.example.org"]


@pytest.mark.parametrize("host", ["app.example.com", "any.example.org"])
async def test_a_tunnel_on_a_host_of_its_own_has_a_session_there(make_place: Any, host: str) -> None:
    async with make_place(None, None, WholeHosts) as place:
        token = f"Cookie: preevy-saas-jwt={place.saas(place.owner.thumbprint)}"
        asked = await place.get("/a?b", BROWSER, host=host)
        login = await place.follow(asked, token, BROWSER)
        arrived = await place.follow(login, BROWSER)
        clean = await place.follow(arrived, cookie(arrived), BROWSER)
        page = await place.follow(clean, cookie(arrived), BROWSER)
        ticket = urlsplit(login.field("location") or "").query.rpartition("=")[2]
        elsewhere = await place.get(f"/?_preevy_session={ticket}", BROWSER, host="other.example.org")

        assert (login.field("location") or "").startswith(f"http://{host}:3000/a?b&_preevy_session=")
        assert "Domain" not in (arrived.field("set-cookie") or "")
        assert clean.field("location") == f"http://{host}:3000/a?b"
        assert page.body == b"the app" and len(place.heads) == 1
        assert (elsewhere.field("location") or "").startswith("http://auth.tunnels.test:3000/login?")


async def test_an_app_that_is_not_private_gets_no_ticket(make_place: Any) -> None:
    async with make_place(environ={"TUNNEL_SERVER_SESSION_SCOPE": "host"}) as place:
        async with Service(place.app) as app, place.publish(app.port, "/open", place.owner) as host:
            label = host.partition(".")[0]
            token = f"Cookie: preevy-saas-jwt={place.saas(place.owner.thumbprint)}"

            login = await place.get(f"/login?env={label}&returnPath=/a", token, BROWSER, host="auth.tunnels.test")

    assert login.field("location") == f"http://{host}:3000/a"


# The API of profiles


async def test_a_profile_lists_its_tunnels(place: Place) -> None:
    answer = await place.get(
        f"/profiles/{place.owner.thumbprint}/tunnels", bearer(place.owner.token()), host="api.tunnels.test"
    )

    assert answer.status == 200
    assert json.loads(answer.body) == [{"envId": "env", "hostname": place.label, "access": "private"}]


async def test_a_profile_lists_nothing_to_others(place: Place) -> None:
    path = f"/profiles/{place.owner.thumbprint}/tunnels"
    other = Signer()

    statuses = {
        "no token": (await place.get(path, host="api.tunnels.test")).status,
        "garbage": (await place.get(path, bearer("x"), host="api.tunnels.test")).status,
        "another key": (await place.get(path, bearer(other.token()), host="api.tunnels.test")).status,
        "guest": (await place.get(path, bearer(place.saas()), host="api.tunnels.test")).status,
        "member": (await place.get(path, bearer(place.saas(place.owner.thumbprint)), host="api.tunnels.test")).status,
        "elsewhere": (await place.get(path, bearer(place.owner.token()), host="auth.tunnels.test")).status,
        "unknown": (
            await place.get(f"/profiles/{other.thumbprint}/tunnels", bearer(other.token()), host="api.tunnels.test")
        ).status,
    }

    assert statuses == {
        "no token": 401, "garbage": 400, "another key": 400, "guest": 401,
        "member": 200, "elsewhere": 404, "unknown": 404,
    }  # fmt: skip


# HTTP/2, and by path


async def test_over_http2_it_is_the_same(make_place: Any, tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "tunnels.test", "*.tunnels.test")
    tls = {"tls_cert_file": str(pair.cert), "tls_key_file": str(pair.key), "base_url": "https://tunnels.test"}

    async with make_place(**tls) as place:
        url = f"https://{place.host}/a"
        connect = ("--connect-to", f"::127.0.0.1:{place.rig.tls.port}", "--cacert", str(pair.ca), "--http2", "-si")
        nobody = await curl(*connect, url)
        owner = await curl(*connect, "-H", bearer(place.owner.token()), url)
        browser = await curl(
            *connect, "-H", basic(place.owner.token()), "-H", BROWSER, "-L", "-c", str(tmp_path / "jar"), url
        )

    assert nobody.startswith("HTTP/2 307")
    assert owner.startswith("HTTP/2 200") and owner.endswith("the app")
    assert [line.split()[1] for line in browser.splitlines() if line.startswith("HTTP/2")] == ["307", "302", "200"]
    assert all("preevy-" not in head and "authorization" not in head.lower() for head in place.heads)


async def test_a_private_tunnel_is_not_served_by_path(place: Place) -> None:
    answer = await place.get(f"/proxy/{place.label}/a?b", bearer(place.owner.token()), host="tunnels.test:3000")

    assert answer.status == 307
    assert answer.field("location") == f"http://{place.label}.tunnels.test:3000/a?b"
    assert place.heads == []


async def curl(*words: str) -> str:
    process = await asyncio.create_subprocess_exec(need("curl"), *words, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    return out.decode()


async def test_what_only_looks_like_a_preflight_opens_nothing(place: Place) -> None:
    preflight = ("Origin: https://a.test", "Access-Control-Request-Method: GET")

    for more in (("Connection: Upgrade", "Upgrade: websocket"), ("Content-Length: 0", "Transfer-Encoding: chunked")):
        answer = await place.get("/", *preflight, *more, method="OPTIONS")
        assert answer.status in (307, 400), more
    assert (await place.get("/", "Origin:", "Access-Control-Request-Method:", method="OPTIONS")).status == 307


async def test_a_preflight_shows_nothing_of_an_app_that_takes_it_for_a_request(place: Place) -> None:
    answer = await place.get(
        "/", "Origin: https://a.test", "Access-Control-Request-Method: GET", "Cookie: a=1", method="OPTIONS"
    )

    assert (answer.status, answer.body) == (200, b"")
    assert {name.lower() for name, _ in answer.fields} <= {"content-length", "vary", "allow", "connection"}
