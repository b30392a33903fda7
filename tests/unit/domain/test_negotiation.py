from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel_server.domain.negotiation import Answer, preferred


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Answer.TEXT),
        ("*/*", Answer.TEXT),
        ("application/json", Answer.JSON),
        ("application/json, text/plain, */*", Answer.JSON),
        ("application/problem+json", Answer.JSON),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Answer.HTML),
        ("text/html;q=0.5, application/json", Answer.JSON),
        ("text/html, application/json;q=0.5", Answer.HTML),
        ("application/json;q=0", Answer.TEXT),
        ("application/json;q=x", Answer.TEXT),
    ],
)
def test_the_form_that_the_visitor_names_is_chosen(accept: str, form: Answer) -> None:
    assert preferred(accept) is form


@given(st.text())
def test_no_value_makes_it_fail(accept: str) -> None:
    assert preferred(accept) in Answer
