from __future__ import annotations

import pytest

from tunnel_server import Reject
from tunnel_server.house.reserved_names import DEFAULT, MAX_NAMES, ReservedNames, names


def reserved(value: str) -> ReservedNames:
    plugin = ReservedNames()
    plugin.configure({"reserved_names": names(value)})
    return plugin


def test_a_label_in_the_list_is_rejected() -> None:
    plugin = reserved("www mail")

    answer = plugin.authorize_tunnel(("mail",))

    assert isinstance(answer, Reject) and "mail" in answer.reason


def test_a_label_that_is_not_in_the_list_passes() -> None:
    plugin = reserved("www")

    answer = plugin.authorize_tunnel(("www-5rwpwhy5",))

    assert answer is None


def test_any_of_several_names_is_enough() -> None:
    plugin = reserved("www")

    answer = plugin.authorize_tunnel(("mine", "www"))

    assert isinstance(answer, Reject)


def test_a_whole_host_name_is_not_under_the_base_host() -> None:
    plugin = reserved("www")

    answer = plugin.authorize_tunnel(("www.example.com",))

    assert answer is None


@pytest.mark.parametrize("label", ["internal-a", "internal-", "a-staging-b", "x1y2z"])
def test_a_star_stands_for_any_characters(label: str) -> None:
    plugin = reserved("internal-*, *-staging-*, x*y*z")

    answer = plugin.authorize_tunnel((label,))

    assert isinstance(answer, Reject)


@pytest.mark.parametrize("label", ["internal", "internals", "staging", "xz", "xzy"])
def test_what_does_not_fit_a_pattern_passes(label: str) -> None:
    plugin = reserved("internal-*, *-staging-*, x*y*z, ab*ba")

    answer = plugin.authorize_tunnel((label, "aba"))

    assert answer is None


def test_without_settings_the_usual_names_are_reserved() -> None:
    plugin = ReservedNames()

    answers = [plugin.authorize_tunnel((name,)) for name in DEFAULT]

    assert all(isinstance(answer, Reject) for answer in answers)


def test_the_setting_of_the_default_is_the_default() -> None:
    (setting,) = ReservedNames().register_settings()

    again = names(" ".join(setting.default))

    assert again == DEFAULT


@pytest.mark.parametrize(
    "value", ["a.b", "a/b", "*", "**", "ä", "x" * 64, " ".join(f"n{n}" for n in range(MAX_NAMES + 1))]
)
def test_what_is_no_label_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="has"):
        names(value)


def test_case_does_not_matter() -> None:
    plugin = reserved("WWW")

    answer = plugin.authorize_tunnel(("www",))

    assert isinstance(answer, Reject)
