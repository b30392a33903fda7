from __future__ import annotations

from math import inf

from tunnel_server.domain.admission import ACCEPT, NOBODY, Accept, Reject, admit


def test_somebody_has_to_accept() -> None:
    assert admit([]) is NOBODY
    assert admit([None, None]) is NOBODY
    assert admit([None, ACCEPT]) == Accept({}, inf)


def test_any_rejection_wins_and_the_first_is_told() -> None:
    assert admit([ACCEPT, Reject("a"), ACCEPT, Reject("b")]) == Reject("a")


def test_attributes_are_joined_and_the_earliest_end_counts() -> None:
    answer = admit([Accept({"a": "1", "b": "2"}, 30.0), Accept({"b": "3", "c": "4"}, 20.0), ACCEPT])

    assert isinstance(answer, Accept)
    assert dict(answer.attributes) == {"a": "1", "b": "2", "c": "4"}
    assert answer.expires_at == 20.0
