"""Reading lines: what sshd(8) takes is taken, what it refuses is refused, and what cannot be enforced here, too."""

from __future__ import annotations

import base64
from collections.abc import Callable
from math import inf
from typing import Any

import pytest
from tunnel_server_authorized_keys.lines import MAX_LINE, read_book, read_line

NewPerson = Callable[..., Any]


def options_of(person: Any, text: str) -> Any:
    line = read_line(person.line(text), "keys:1")
    assert line is not None
    return line.options


@pytest.mark.parametrize("text", ["", "   \t", "# a comment", "  # ssh-ed25519 AAAA"])
def test_comments_and_empty_lines_say_nothing(text: str) -> None:
    assert read_line(text, "keys:1") is None


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("ssh-ed25519", {}),
        ("ssh-rsa", {"key_size": 2048}),
        ("ecdsa-sha2-nistp256", {}),
        ("ecdsa-sha2-nistp384", {}),
        ("ecdsa-sha2-nistp521", {}),
    ],
)
def test_a_bare_key_of_each_type_is_read_with_its_comment(
    new_person: NewPerson, kind: str, options: dict[str, int]
) -> None:
    ada = new_person(kind, **options)

    line = read_line(ada.line("", "ada at her desk") + " \r", "keys:1")

    assert line is not None
    assert line.key == ada.blob
    assert line.comment == "ada at her desk"
    assert line.options.forwarding
    assert line.options.expires_at == inf


def test_quotes_hold_blanks_commas_and_escaped_quotes(new_person: NewPerson) -> None:
    ada = new_person()
    text = r'command="say \"a b\", c",from="10.0.0.0/8,!10.6.6.6",permitlisten="web,api-*",PermitListen="*.example.com"'

    found = options_of(ada, text)

    assert found.listen.allowed == ("web", "api-*", "*.example.com")
    assert found.sources.permit("10.1.2.3")
    assert not found.sources.permit("10.6.6.6")


@pytest.mark.parametrize(
    ("text", "forwarding"),
    [
        ("restrict", False),
        ("no-port-forwarding", False),
        ("restrict,port-forwarding", True),
        ("port-forwarding,restrict", False),
        ("restrict,pty,agent-forwarding", False),
        ("pty,no-x11-forwarding,no-user-rc,no-touch-required", True),
        ('command="true",environment="A=b",tunnel="0",permitopen="h:1"', True),
    ],
)
def test_what_comes_last_decides_about_forwarding(new_person: NewPerson, text: str, forwarding: bool) -> None:
    assert options_of(new_person(), text).forwarding is forwarding


@pytest.mark.parametrize(
    "text",
    [
        "frobnicate",
        "restrict,",
        ",restrict",
        "restrict;pty",
        'from="10.0.0.1',
        r'from="10.0.0.1\"',
        r'command="x\"',
        "from=10.0.0.1",
        "from",
        'from=""',
        'from="10.0.0.1,"',
        'from="10.0.0.1/8"',
        'from="10.0.0.0/33"',
        'from="bastion.example.com"',
        'from="*,!evil.example.com"',
        'from="*.bad"',
        'from="10.0.0.1",from="10.0.0.2"',
        'principals="a",principals="b"',
        'expiry-time="soon"',
        'expiry-time="20260230"',
        'expiry-time="202601012400"',
        'expiry-time="19691231"',
        'expiry-time="２０２６０１０１"',
        'permitlisten="localhost:8080"',
        'permitlisten=""',
        'permitlisten="a,,b"',
        'permitlisten="!"',
        'restrict="yes"',
        "no-restrict",
        "no-cert-authority",
        "verify-required",
    ],
)
def test_an_option_that_is_unknown_malformed_or_not_to_be_enforced_refuses_the_line(
    new_person: NewPerson, text: str
) -> None:
    with pytest.raises(ValueError, match=r"option|:"):
        read_line(new_person().line(text), "keys:1")


def test_a_key_that_is_cut_mangled_or_of_another_type_refuses_the_line(new_person: NewPerson) -> None:
    kind, encoded = new_person().public.split()[:2]
    broken = [
        kind,
        f"{kind} {encoded[:-4]}",
        f"{kind} {encoded[:-1]}!",
        f"{kind} {encoded}{encoded}",
        f"ssh-rsa {encoded}",
        f"ssh-dss {encoded}",
        f"ssh-ed25519-cert-v01@openssh.com {encoded}",
        "restrict",
        "restrict,pty ",
        f"{kind} {encoded}\x00",
        f"{kind} {encoded} " + "x" * MAX_LINE,
    ]

    for text in broken:
        with pytest.raises(ValueError, match=r"."):
            read_line(text, "keys:1")


def test_what_cannot_be_enforced_is_named(new_person: NewPerson) -> None:
    with pytest.raises(ValueError, match="PIN"):
        options_of(new_person(), "verify-required")


def test_a_key_in_another_encoding_than_its_own_refuses_the_line() -> None:
    exponent, modulus = b"\x00\x00\x00\x04\x00\x01\x00\x01", b"\x00\x00\x01\x01\x00\xc0" + b"\x01" * 255
    blob = b"\x00\x00\x00\x07ssh-rsa" + exponent + modulus

    with pytest.raises(ValueError, match="canonical"):
        read_line(f"ssh-rsa {base64.b64encode(blob).decode()}", "keys:1")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("20300102Z", 1893542400),
        ("203001020304Z", 1893553440),
        ("20300102030405z", 1893553445),
        ("20300102030405UTC", 1893553445),
    ],
)
def test_an_expiry_is_read_to_the_second(new_person: NewPerson, text: str, moment: int) -> None:
    assert options_of(new_person(), f'expiry-time="{text}"').expires_at == moment


def test_an_expiry_without_z_is_local_time_and_the_earliest_counts(
    new_person: NewPerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    monkeypatch.setenv("TZ", "XST-2")  # two hours east of Greenwich
    time.tzset()
    try:
        found = options_of(new_person(), 'expiry-time="20300102",expiry-time="20310102Z"')
    finally:
        monkeypatch.undo()
        time.tzset()

    assert found.expires_at == 1893542400 - 2 * 3600


def test_a_broken_line_is_named_and_the_others_stay(new_person: NewPerson) -> None:
    ada, bob = new_person(), new_person()
    text = (ada.line() + "\nwhat is this\n\xff\xfe\n" + bob.line()).encode("latin-1")

    book = read_book({"team": text, "more": b"frobnicate " + ada.public.encode()})

    assert set(book.keys) == {ada.blob, bob.blob}
    assert book.keys[bob.blob][0].where == "team:4"
    assert [line.where for line in book.refused] == ["team:2", "team:3", "more:1"]


def test_a_line_of_an_authority_is_no_line_of_its_key(new_person: NewPerson) -> None:
    authority = new_person()

    book = read_book({"keys": authority.line("cert-authority").encode()})

    assert not book.keys
    assert book.lines == 1
