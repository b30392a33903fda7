from __future__ import annotations

from itertools import permutations

import pytest

from tunnel_server.domain.access import ALLOW, NO_SIGN_IN, Abstain, Allow, Answer, Challenge, Login, Refuse, decide
from tunnel_server.domain.rules import Endings
from tunnel_server.domain.visit import FinishedRequest

REFUSE, CHALLENGE, LOGIN = Refuse(429, "slow down"), Challenge('Basic realm="x"'), Login("https://login.test/")


def test_without_an_opinion_a_public_tunnel_is_open_and_a_private_one_shut() -> None:
    assert decide([None, None], private=False) is ALLOW
    assert decide([], private=True) is NO_SIGN_IN
    assert decide([None, Allow()], private=True) == Allow()


@pytest.mark.parametrize("answers", list(permutations([REFUSE, CHALLENGE, LOGIN, ALLOW, None])))
def test_any_refusal_wins_whatever_the_order(answers: tuple[Answer | None, ...]) -> None:
    assert decide(answers, private=True) is REFUSE
    assert decide([a for a in answers if a is not REFUSE], private=True) is CHALLENGE
    assert decide([a for a in answers if a not in (REFUSE, CHALLENGE)], private=True) is LOGIN


def test_of_several_refusals_the_first_is_told() -> None:
    assert decide([Refuse(403, "first"), Refuse(404, "second")], private=False) == Refuse(403, "first")


def test_who_only_wants_to_hear_of_the_end_opens_nothing() -> None:
    listener = Abstain(finished=lambda request: None)

    assert decide([listener, None], private=True) is NO_SIGN_IN
    assert decide([listener], private=False) is ALLOW
    assert decide([listener, REFUSE], private=False) is REFUSE


def test_what_any_policy_hides_is_hidden() -> None:
    both = decide([Allow(frozenset({"authorization"})), ALLOW, Allow(frozenset({"x-key"}))], private=True)

    assert both == Allow(frozenset({"authorization", "x-key"}))


def test_an_end_is_told_to_each_once_also_to_who_comes_late() -> None:
    endings, told = Endings(), []
    ended = FinishedRequest(None, "::1", "GET", "web.test", "/", 0, "aborted", 0.1, 1, 0)

    endings.append(lambda request: told.append(("early", request)))
    endings.tell(ended)
    endings.append(lambda request: told.append(("late", request)))

    assert told == [("early", ended), ("late", ended)]
