from __future__ import annotations

import pytest

from tunnel_server.domain.forwarding import apps_cookies, confined, is_disguised, visitor_fields


def test_the_service_is_told_of_its_visitor() -> None:
    assert visitor_fields(b"192.0.2.1", b"http", b"web-k.tunnels.test:3000").split(b"\r\n") == [
        b"X-Forwarded-For: 192.0.2.1",
        b"X-Forwarded-Proto: http",
        b"X-Forwarded-Port: 3000",
        b"X-Forwarded-Host: web-k.tunnels.test:3000",
        b"",
    ]


def test_a_trusted_proxy_is_believed_and_added_to_the_chain() -> None:
    told = [(b"x-forwarded-for", b"198.51.100.7"), (b"x-forwarded-proto", b"https"), (b"x-real-ip", b"198.51.100.7")]

    lines = visitor_fields(b"10.0.0.1", b"http", b"web.test", told).split(b"\r\n")

    assert b"X-Forwarded-For: 198.51.100.7, 10.0.0.1" in lines
    assert b"X-Forwarded-Proto: https" in lines
    assert b"X-Forwarded-Host: web.test" in lines
    assert b"X-Real-IP: 198.51.100.7" in lines


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"a=b", b"a=b; Path=/proxy/x/"),
        (b"a=b; Path=/; Domain=tunnels.test; HttpOnly", b"a=b; HttpOnly; Path=/proxy/x/"),
        (b"a=b;path=/y;DOMAIN = z ; ", b"a=b; Path=/proxy/x/"),
    ],
)
def test_a_cookie_is_confined_to_its_app(given: bytes, kept: bytes) -> None:
    assert confined([b"Set-Cookie:" + given + b"\r\n"], b"/proxy/x/") == [b"Set-Cookie: " + kept + b"\r\n"]


def test_an_app_served_by_path_may_not_put_a_worker_before_others() -> None:
    lines = [b"X: 1\r\n", b"service-Worker-allowed: /\r\n"]

    assert confined(lines, b"/proxy/x/") == [b"X: 1\r\n"]


@pytest.mark.parametrize(
    ("name", "disguised"),
    [
        (b"x_forwarded_for", True),
        (b"x-forwarded_proto", True),
        (b"transfer_encoding", True),
        (b"content_length", True),
        (b"x-forwarded-for", False),
        (b"x_request_id", False),
    ],
)
def test_fields_an_app_could_take_for_ours_are_known_by_any_spelling(name: bytes, disguised: bool) -> None:
    assert is_disguised(name) is disguised


@pytest.mark.parametrize(
    "domain", ["tunnels。test".encode(), "ｔunnels.test".encode(), b"%74unnels.test", b'"tunnels.test"', b"", b"."]
)
def test_a_domain_that_is_no_plain_name_makes_a_cookie_of_the_host(domain: bytes) -> None:
    assert apps_cookies([b"Set-Cookie: a=1; Domain=" + domain + b"; Secure\r\n"], b"tunnels.test") == [
        b"Set-Cookie: a=1; Secure\r\n"
    ]


def test_a_cookie_of_the_servers_own_names_is_left_out_also_without_a_name() -> None:
    lines = [b"Set-Cookie: preevy-x=1\r\n", b"set-cookie: =preevy-saas-jwt=1\r\n", b"Set-Cookie: b=1\r\n"]

    assert apps_cookies(lines, b"tunnels.test") == [b"Set-Cookie: b=1\r\n"]
