"""Whose key is whose, and for how long."""

from __future__ import annotations

from math import inf

from tunnel_server_github_keys.forges import GitHub, GitLab
from tunnel_server_github_keys.library import Document, Library, Owner

FORGE = GitHub("https://github.com", "https://api.github.com", users=("ada",), groups=("acme",))
PAGE_1, PAGE_2 = (FORGE.members_url("acme", number) for number in (1, 2))
STALE = 100.0


def library_of(**documents: Document) -> Library:
    """Return a library with the keys of users, by name, and the pages ``page_1`` and ``page_2``."""
    library = Library((FORGE,), STALE)
    pages = {"page_1": PAGE_1, "page_2": PAGE_2}
    library.documents = {pages.get(name) or FORGE.keys_url(name): document for name, document in documents.items()}
    return library


def test_a_named_user_counts_for_ever_and_a_member_as_long_as_the_membership() -> None:
    library = library_of(page_1=Document(1000.0, ("bob", "ada")))

    assert library.users(FORGE) == {"ada": inf, "bob": 1100.0}


def test_a_key_counts_as_long_as_both_the_page_of_keys_and_the_membership() -> None:
    library = library_of(
        page_1=Document(1000.0, ("bob", "cid")),
        ada=Document(2000.0, ("A",)),
        bob=Document(2000.0, ("B",)),
        cid=Document(500.0, ("C",)),
    )

    assert library.owners() == {
        "A": Owner("github", "ada", 2100.0),
        "B": Owner("github", "bob", 1100.0),
        "C": Owner("github", "cid", 600.0),
    }


def test_of_a_key_that_two_have_the_owner_for_whom_it_counts_longest_is_named() -> None:
    library = library_of(page_1=Document(1000.0, ("bob",)), ada=Document(900.0, ("A",)), bob=Document(1000.0, ("A",)))

    assert library.owners()["A"].user == "bob"


def test_pages_end_where_one_says_so_or_is_missing() -> None:
    whole = library_of(page_1=Document(1.0, ("a",), more=True), page_2=Document(1.0, ("b",)))
    cut = library_of(page_1=Document(1.0, ("a",)), page_2=Document(1.0, ("b",)))

    assert [url for url, _ in whole.pages(FORGE, "acme")] == [PAGE_1, PAGE_2]
    assert [url for url, _ in cut.pages(FORGE, "acme")] == [PAGE_1]


def test_what_nobody_asks_for_is_forgotten() -> None:
    library = library_of(
        page_1=Document(1.0, ("bob",)),
        page_2=Document(1.0, ("eve",)),
        ada=Document(1.0, ()),
        bob=Document(1.0, ()),
        eve=Document(1.0, ()),
    )
    library.documents[GitLab("https://gitlab.com").keys_url("ada")] = Document(1.0, ())

    library.forget_others()

    assert set(library.documents) == {PAGE_1, FORGE.keys_url("ada"), FORGE.keys_url("bob")}
