"""Who may log in and what may be published, decided over lines that are in force."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any

from tunnel_server_authorized_keys.lines import read_book
from tunnel_server_authorized_keys.rules import Denial, Grant, Login, attributes, find, objection

from tunnel_server import Certificate

NewPerson = Callable[..., Any]
NOW = 1_800_000_000.0  # 2027


def book_of(*lines: str) -> Any:
    return read_book({"keys": "\n".join(lines).encode()})


def certificate(authority: Any, *principals: str, forwarding: bool = True, **options: object) -> Certificate:
    granted = {"permit-port-forwarding": True} if forwarding else {}
    return Certificate(authority.blob, "id", 1, principals, 0.0, inf, {**granted, **options})


def test_a_key_that_is_listed_is_admitted_and_one_that_is_not_is_unknown(new_person: NewPerson) -> None:
    ada, bob = new_person(), new_person()
    book = book_of(ada.line())

    assert isinstance(find(book, Login.now(ada.client(), None), NOW), Grant)
    assert find(book, Login.now(bob.client(), None), NOW) is None


def test_the_first_line_that_fits_counts(new_person: NewPerson) -> None:
    ada = new_person()
    book = book_of(
        ada.line('expiry-time="20200101Z"'),
        ada.line('from="10.0.0.0/8",permitlisten="office"'),
        ada.line('permitlisten="home"'),
    )

    home = find(book, Login.now(ada.client("192.0.2.7"), None), NOW)
    office = find(book, Login.now(ada.client("10.1.1.1"), None), NOW)

    assert isinstance(home, Grant)
    assert home.line.where == "keys:3"
    assert isinstance(office, Grant)
    assert office.line.where == "keys:2"
    assert objection(office, "home", ("home-x",)) is not None
    assert objection(office, "office", ("office-x",)) is None


def test_a_line_whose_time_is_over_or_whose_addresses_do_not_fit_denies(new_person: NewPerson) -> None:
    ada = new_person()

    for options in ('expiry-time="20261231Z"', 'from="10.0.0.0/8"'):
        assert isinstance(find(book_of(ada.line(options)), Login.now(ada.client(), None), NOW), Denial)


def test_a_restricted_key_may_log_in_and_open_nothing(new_person: NewPerson) -> None:
    ada = new_person()

    found = find(book_of(ada.line('restrict,permitlisten="web"')), Login.now(ada.client(), None), NOW)

    assert isinstance(found, Grant)
    assert objection(found, "web", ("web-x",)) is not None


def test_every_name_of_a_tunnel_has_to_be_permitted(new_person: NewPerson) -> None:
    ada = new_person()
    found = find(book_of(ada.line('permitlisten="web"')), Login.now(ada.client(), None), NOW)

    assert isinstance(found, Grant)
    assert objection(found, "web", ("web-x",)) is None
    assert objection(found, "web", ("web-x", "app.example.com")) is not None
    assert objection(found, "api", ()) is not None


def test_a_certificate_publishes_the_names_that_are_its_principals(new_person: NewPerson) -> None:
    authority, ada = new_person(), new_person()
    login = Login.now(ada.client(), certificate(authority, "web", "api-*", "root@host"))

    found = find(book_of(authority.line("cert-authority")), login, NOW)

    assert isinstance(found, Grant)
    assert objection(found, "web", ("web-x",)) is None
    assert objection(found, "api-1", ("api-1-x",)) is None
    assert objection(found, "admin", ("admin-x",)) is not None


def test_a_lines_principals_and_names_narrow_a_certificate(new_person: NewPerson) -> None:
    authority, ada = new_person(), new_person()
    book = book_of(authority.line('cert-authority,principals="web-*",permitlisten="*-1"'))

    wide = find(book, Login.now(ada.client(), certificate(authority, "*")), NOW)
    found = find(book, Login.now(ada.client(), certificate(authority, "web-*", "*")), NOW)

    assert isinstance(wide, Denial)
    assert isinstance(found, Grant)
    assert objection(found, "web-1", ("web-1-x",)) is None
    assert objection(found, "web-2", ("web-2-x",)) is not None
    assert objection(found, "api-1", ("api-1-x",)) is not None


def test_a_certificate_without_a_principal_that_counts_is_denied(new_person: NewPerson) -> None:
    authority, ada = new_person(), new_person()
    book = book_of(authority.line("cert-authority"))

    for principals in ((), ("root:host",), ("*", "!prod"), ("a,*",)):
        assert isinstance(find(book, Login.now(ada.client(), certificate(authority, *principals)), NOW), Denial)


def test_a_certificate_without_the_extension_for_forwarding_opens_nothing(new_person: NewPerson) -> None:
    authority, ada = new_person(), new_person()
    login = Login.now(ada.client(), certificate(authority, "*", forwarding=False))

    found = find(book_of(authority.line("cert-authority")), login, NOW)

    assert isinstance(found, Grant)
    assert objection(found, "web", ("web-x",)) is not None


def test_a_key_and_a_certificate_need_lines_of_their_own_kind(new_person: NewPerson) -> None:
    authority, ada = new_person(), new_person()
    signed = certificate(authority, "*")

    assert find(book_of(ada.line(), authority.line()), Login.now(ada.client(), signed), NOW) is None
    assert find(book_of(authority.line("cert-authority")), Login.now(authority.client(), None), NOW) is None


def test_what_is_noted_of_a_client_makes_the_same_login_again(new_person: NewPerson) -> None:
    authority, ada = new_person(), new_person()
    book = book_of(authority.line("cert-authority", "the CA"), ada.line("", "ada"))

    for signed in (None, certificate(authority, "web", "api-*", forwarding=False)):
        login = Login.now(ada.client(), signed)
        grant = find(book, login, NOW)
        assert isinstance(grant, Grant)

        again = Login.before(replace(ada.client(), attributes=attributes(grant, login)))

        assert again == login
