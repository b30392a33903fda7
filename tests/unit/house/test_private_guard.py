"""What a request to a private tunnel gets."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tunnel_server import Allow, Challenge, Login, Refuse, Request
from tunnel_server.house.private_tunnels import PrivateTunnels
from tunnel_server.house.private_tunnels.guard import Guard
from tunnel_server.house.private_tunnels.options import declared
from tunnel_server.house.private_tunnels.places import CARRIED
from tunnel_server.house.private_tunnels.sessions import Role, Session

NOW = 1_800_000_000
BROWSER = "User-Agent: Mozilla/5.0"


class House:
    """The plugin with one private tunnel, and who asks for it."""

    def __init__(self, owner: Any, clock: Any, ask: Callable[..., Request], make_server: Any) -> None:
        self.owner, self.clock, self._ask, self._make = owner, clock, ask, make_server
        self.service = type(owner).of("ecdsa-sha2-nistp256")
        self.tunnel = owner.tunnel()

    def open(self, base: str = "http://tunnels.test", names: tuple[str, ...] = (), **settings: Any) -> House:
        self.tunnel = self.owner.tunnel("/web#access=private", *names)
        self.host = self.tunnel.label if "." in self.tunnel.label else f"{self.tunnel.label}.{base.split('/')[2]}"
        self.plugin = PrivateTunnels(self.clock)
        given = {"saas_public_key": self.service.public_pem, "saas_jwt_issuer": "service"} | settings
        self.plugin.configure({setting.name: setting.default for setting in declared()} | given)
        self.plugin.startup(self._make(base, self.tunnel))
        guard = self.plugin.guard_tunnel(self.tunnel)
        assert isinstance(guard, Guard)
        self.guard = guard
        return self

    def ask(self, path: str = "/", *fields: str, method: str = "GET", host: str = "") -> Any:
        return self.guard(self._ask(path, *fields, method=method, host=host or self.host))

    def saas(self, *profiles: Any, **claims: Any) -> str:
        token: str = self.service.token("ES256", iss="service", sub="me", profiles=list(profiles), **claims)
        return token

    def session(self, role: Role = Role.ADMIN, scope: str = "", thumbprint: str = "") -> str:
        thumbprint = thumbprint or self.owner.thumbprint
        value = self.plugin._signed.sessions.make(Session(role, NOW + 60), thumbprint, scope)
        return f"Cookie: preevy-{thumbprint}={value}"


@pytest.fixture
def house(owner: Any, clock: Any, ask: Any, make_server: Any) -> House:
    return House(owner, clock, ask, make_server).open()


def basic(token: str, user: str = "x-preevy-profile-key") -> str:
    return "Authorization: Basic " + b64encode(f"{user}:{token}".encode()).decode()


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def login_page(answer: Any) -> dict[str, str]:
    assert isinstance(answer, Login)
    url = urlsplit(answer.location)
    assert (url.hostname or "").startswith("auth.") and url.path == "/login"
    return {name: value for name, (value,) in parse_qs(url.query).items()}


def kept(answer: Any) -> str:
    """Return the Cookie field that a browser sends after ``answer``."""
    assert isinstance(answer, Login)
    (cookie,) = answer.cookies
    return "Cookie: " + cookie.partition(";")[0]


# Sessions


def test_a_public_tunnel_is_not_guarded(house: House) -> None:
    assert house.plugin.guard_tunnel(house.owner.tunnel("/web")) is None


def test_a_session_passes(house: House) -> None:
    assert house.ask("/", house.session()) == Allow()


def test_a_session_is_over_when_it_is(house: House) -> None:
    cookie = house.session()

    house.clock.now += 60

    assert login_page(house.ask("/", cookie))


def test_a_session_of_another_profile_does_not_pass(house: House, stranger: Any) -> None:
    foreign = house.session(thumbprint=stranger.thumbprint)
    renamed = foreign.replace(stranger.thumbprint, house.owner.thumbprint)

    assert login_page(house.ask("/", foreign))
    assert login_page(house.ask("/", renamed))


def test_a_session_passes_though_others_were_put_before_it(house: House) -> None:
    tossed = f"preevy-{house.owner.thumbprint}"

    answer = house.ask("/", f"Cookie: {tossed}=x; {tossed}=; a=b; " + house.session().removeprefix("Cookie: "))

    assert answer == Allow()


def test_a_session_passes_whatever_token_comes_with_it(house: House) -> None:
    assert house.ask("/", house.session(), bearer("garbage")) == Allow()


@pytest.mark.parametrize("scheme", [basic, bearer])
def test_a_token_of_ours_is_hidden_beside_a_session_too(house: House, scheme: Callable[[str], str]) -> None:
    answer = house.ask("/", house.session(), scheme(house.owner.token()))

    assert answer == Allow(hidden=frozenset({"authorization"}))


def test_a_token_of_the_apps_is_not_hidden_beside_a_session(house: House, stranger: Any) -> None:
    for field in (bearer(stranger.token()), basic("password", "me"), "Authorization: Digest x"):
        assert house.ask("/", house.session(), field) == Allow()


def test_a_guests_session_does_not_pass(house: House) -> None:
    assert house.ask("/", house.session(Role.GUEST)).status == 401


def test_a_guest_who_has_become_an_admin_need_not_wait(house: House) -> None:
    assert isinstance(house.ask("/", house.session(Role.GUEST), bearer(house.owner.token())), Allow)


def test_sessions_end_with_the_secret_that_signed_them(house: House) -> None:
    old = house.open(cookie_secrets=("old",)).session()

    assert house.open(cookie_secrets=("new", "old")).ask("/", old) == Allow()
    assert login_page(house.open(cookie_secrets=("new",)).ask("/", old))


# Tokens


def test_a_bearer_token_passes_and_is_hidden(house: House) -> None:
    answer = house.ask("/", bearer(house.owner.token()), BROWSER)

    assert answer == Allow(hidden=frozenset({"authorization"}))


def test_a_token_as_password_passes_and_is_hidden(house: House) -> None:
    assert house.ask("/", basic(house.owner.token())) == Allow(hidden=frozenset({"authorization"}))


def test_a_token_in_a_cookie_passes(house: House) -> None:
    assert house.ask("/", f"Cookie: preevy-saas-jwt={house.saas(house.owner.thumbprint)}") == Allow()


def test_a_token_of_the_service_without_the_profile_is_a_guests(house: House, stranger: Any) -> None:
    for profiles in ((), (stranger.thumbprint,), ([house.owner.thumbprint],), (7, None)):
        assert house.ask("/", bearer(house.saas(*profiles))).status == 401


@pytest.mark.parametrize("claims", [{"profiles": None}, {"profiles": "text"}, {"exp": None}], ids=str)
def test_a_token_of_the_service_has_to_be_whole(house: House, claims: dict[str, Any]) -> None:
    token = house.service.token("ES256", **({"iss": "service", "profiles": [house.owner.thumbprint]} | claims))

    assert house.ask("/", bearer(token)).status == 400


def test_a_token_of_another_profile_is_refused(house: House, stranger: Any) -> None:
    assert house.ask("/", bearer(stranger.token())).status == 400
    assert house.ask("/", bearer(stranger.token(iss=f"preevy://{house.owner.thumbprint}"))).status == 400


def test_a_token_of_the_service_cannot_speak_for_a_profile(house: House) -> None:
    token = house.service.token("ES256", iss=f"preevy://{house.owner.thumbprint}", profiles=[house.owner.thumbprint])

    assert house.ask("/", bearer(token)).status == 400


def test_a_profile_cannot_speak_for_the_service(house: House) -> None:
    token = house.owner.token(iss="service", profiles=[house.owner.thumbprint])

    assert house.ask("/", bearer(token)).status == 400


def test_a_token_of_nobody_is_refused(house: House) -> None:
    assert house.ask("/", bearer(house.owner.token(iss="nobody"))).status == 400


def test_without_the_services_key_its_tokens_are_refused(house: House) -> None:
    house.open(saas_public_key="")

    assert house.ask("/", bearer(house.saas(house.owner.thumbprint))).status == 400


@pytest.mark.parametrize("token", ["", "garbage", "a.b.c", "é", "x" * 20_000])
def test_garbage_is_refused_wherever_it_is(house: House, token: str) -> None:
    assert house.ask("/", bearer(token)).status == 400
    assert house.ask("/", basic(token)).status == 400
    assert house.ask("/", f"Cookie: preevy-saas-jwt={token}").status == 400


def test_a_cookie_that_is_no_use_is_taken_away(house: House) -> None:
    answer = house.ask("/", "Cookie: preevy-saas-jwt=garbage")

    assert answer.headers == (("Set-Cookie", "preevy-saas-jwt=; Path=/; Domain=tunnels.test; Max-Age=0; Secure"),)


def test_a_good_cookie_counts_though_bad_ones_were_put_before_it(house: House) -> None:
    good = house.saas(house.owner.thumbprint)

    assert (
        house.ask("/", f"Cookie: preevy-saas-jwt=x; preevy-saas-jwt={house.saas()}; preevy-saas-jwt={good}") == Allow()
    )


def test_an_expired_token_is_refused_though_it_was_good_before(house: House) -> None:
    token = house.owner.token()

    before = house.ask("/", bearer(token))
    house.clock.now += 3600

    assert isinstance(before, Allow)
    assert house.ask("/", bearer(token)).status == 400


def test_two_authorization_fields_are_refused(house: House) -> None:
    answer = house.ask("/", bearer(house.owner.token()), "Authorization: Basic x")

    assert answer.status == 400


def test_the_owner_of_a_security_key_has_no_tokens(house: House, owner: Any) -> None:
    inner = owner.blob[-36:]
    kind = b"sk-ssh-ed25519@openssh.com"
    client = replace(house.tunnel.client, public_key=len(kind).to_bytes(4, "big") + kind + inner + b"\0\0\0\4ssh:")
    guard = house.plugin.guard_tunnel(replace(house.tunnel, client=client))
    assert guard is not None

    answer = guard(house._ask("/", bearer(owner.token()), host=house.host))

    assert isinstance(answer, Refuse) and answer.status == 400


# Browsers


@pytest.mark.parametrize("by", ["password", "cookie"])
def test_a_browser_gets_a_session_and_goes_by_the_login_page(house: House, by: str) -> None:
    token = house.saas(house.owner.thumbprint, exp=NOW + 100)
    field = basic(token) if by == "password" else f"Cookie: preevy-saas-jwt={token}"

    answer = house.ask("/a?b=c&_preevy_auth_hint=basic", field, BROWSER)

    assert login_page(answer) == {"env": house.tunnel.label, "returnPath": "/a?b=c"}
    assert house.ask("/", kept(answer)) == Allow()
    (cookie,) = answer.cookies
    assert cookie.split("; ")[1:] == [
        "Path=/", "Domain=tunnels.test", "Max-Age=100", "Expires=Fri, 15 Jan 2027 08:01:40 GMT", "Secure", "HttpOnly",
        "SameSite=None",
    ]  # fmt: skip


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "OPTIONS"])
def test_a_browser_that_does_not_get_passes(house: House, method: str) -> None:
    assert isinstance(house.ask("/", basic(house.owner.token()), BROWSER, method=method), Allow)


# Nobody


def test_who_shows_nothing_is_sent_to_the_login_page(house: House) -> None:
    answer = house.ask("/a/b?c=%20&d", "Authorization: Basic bWU6cGFzcw==")

    assert login_page(answer) == {"env": house.tunnel.label, "returnPath": "/a/b?c=%20&d"}
    assert answer.cookies == ()


def test_who_can_show_a_password_is_asked_for_it(house: House) -> None:
    answer = house.ask("/?a=b&_preevy_auth_hint=basic")

    assert answer == Challenge('Basic realm="Secure Area"')


@pytest.mark.parametrize("hint", ["_preevy_auth_hint=no", "_preevy_auth_hint", "x_preevy_auth_hint=basic"])
def test_another_hint_is_none(house: House, hint: str) -> None:
    assert login_page(house.ask("/?" + hint))


def test_a_path_cannot_lead_elsewhere(house: House) -> None:
    for path in ("//evil.test/", "/%2fevil.test", "/\\evil.test", "*", "http://evil.test/"):
        assert login_page(house.ask(path))["returnPath"] in ("/", "/evil.test", "/evil.test/")


def test_an_address_that_is_not_the_tunnels_is_not_passed_on(house: House) -> None:
    assert login_page(house.ask("/", host="evil.test"))["env"] == house.tunnel.label


# Preflights


def test_a_preflight_passes(house: House) -> None:
    answer = house.ask("/", "Origin: https://a", "Access-Control-Request-Method: PUT", method="OPTIONS")

    assert answer == Allow(hidden=frozenset({"authorization", "cookie"}), bare=True)


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("OPTIONS", ()),
        ("OPTIONS", ("Origin: https://a",)),
        ("OPTIONS", ("Access-Control-Request-Method: PUT",)),
        ("GET", ("Origin: https://a", "Access-Control-Request-Method: PUT")),
        ("options", ("Origin: https://a", "Access-Control-Request-Method: PUT")),
    ],
)
def test_what_is_not_quite_a_preflight_does_not(house: House, method: str, fields: tuple[str, ...]) -> None:
    assert login_page(house.ask("/", *fields, method=method))


# Hosts with sessions of their own

OWN = [
    {"names": ("app.example.com",)},
    {"base": "http://localhost:3000"},
    {"base": "https://tunnels.test", "session_scope": "host"},
]


@pytest.mark.parametrize("how", OWN, ids=str)
def test_a_browser_gets_a_session_of_the_host_and_comes_back(house: House, how: dict[str, Any]) -> None:
    house.open(**how)

    first = house.ask("/a?b", basic(house.owner.token()), BROWSER)
    second = house.ask(_path(first), kept(first), BROWSER)
    third = house.ask(_path(second), kept(first), BROWSER)

    assert "Domain" not in first.cookies[0]
    assert second.location.endswith(house.host + "/a?b")
    assert third == Allow()


@pytest.mark.parametrize("how", OWN, ids=str)
def test_a_browser_that_keeps_no_cookies_is_not_sent_around(house: House, how: dict[str, Any]) -> None:
    house.open(**how)

    first = house.ask("/", basic(house.owner.token()), BROWSER)
    with_password = house.ask(_path(first), basic(house.owner.token()), BROWSER)
    without = house.ask(_path(first), BROWSER)

    assert isinstance(with_password, Allow)
    assert isinstance(without, Refuse) and "cookie" in without.reason


@pytest.mark.parametrize("how", OWN, ids=str)
def test_a_ticket_from_the_login_page_becomes_a_session(house: House, how: dict[str, Any]) -> None:
    house.open(**how)
    host = house.host.partition(":")[0]
    ticket = house.plugin._signed.tickets.make(Session(Role.ADMIN, NOW + 60), house.owner.thumbprint, host)

    first = house.ask(f"/a?b&{CARRIED}={ticket}", BROWSER)
    second = house.ask(_path(first), kept(first), BROWSER)

    assert ticket not in first.location and second.location.endswith("/a?b")
    assert house.ask("/a?b", kept(first)) == Allow()


def test_a_ticket_for_one_host_is_nothing_to_another(house: House) -> None:
    house.open(names=("app.example.com", "www.example.com"))
    ticket = house.plugin._signed.tickets.make(Session(Role.ADMIN, NOW + 60), house.owner.thumbprint, "app.example.com")

    answer = house.ask(f"/?{CARRIED}={ticket}", host="www.example.com")

    assert login_page(answer) == {"env": "www.example.com", "returnPath": "/"}


def test_a_ticket_is_nothing_where_the_cookie_is_shared(house: House) -> None:
    ticket = house.plugin._signed.tickets.make(Session(Role.ADMIN, NOW + 60), house.owner.thumbprint, house.host)

    assert login_page(house.ask(f"/?{CARRIED}={ticket}"))["returnPath"] == "/"


def test_a_guests_ticket_does_not_end_the_session_of_an_admin(house: House) -> None:
    house.open(names=("app.example.com",))
    ticket = house.plugin._signed.tickets.make(Session(Role.GUEST, NOW + 60), house.owner.thumbprint, house.host)

    answer = house.ask(f"/a?{CARRIED}={ticket}", house.session(scope=house.host))

    assert answer == Login("http://app.example.com/a")


def _path(answer: Any) -> str:
    assert isinstance(answer, Login)
    url = urlsplit(answer.location)
    return url.path + (f"?{url.query}" if url.query else "")
