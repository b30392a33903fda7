from __future__ import annotations

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel_server.domain.errors import InvalidForwardRequest
from tunnel_server.domain.forward import ForwardRequest, Script
from tunnel_server.domain.tunnel import Access

JSON = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
SCRIPTS = st.builds(Script, TEXT, st.booleans(), st.booleans(), st.none() | TEXT)


def _packed(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@given(
    st.text(max_size=30).filter(lambda name: "#" not in name),
    st.sampled_from(Access),
    st.none() | JSON,
    st.lists(SCRIPTS, max_size=3),
)
def test_format_and_parse_are_inverse(name: str, access: Access, meta: object, inject: list[Script]) -> None:
    request = ForwardRequest("", name, access, meta, tuple(inject))

    parsed = ForwardRequest.parse(request.format())

    assert (parsed.name, parsed.access, parsed.meta, parsed.inject) == (name, access, meta, tuple(inject))


@given(st.text())
def test_no_text_makes_parsing_fail_otherwise(text: str) -> None:
    with contextlib.suppress(InvalidForwardRequest):
        assert ForwardRequest.parse(text).text == text


@pytest.mark.parametrize(
    "tail",
    [
        "meta=" + base64.urlsafe_b64encode(b"NaN").decode(),
        "meta=" + base64.urlsafe_b64encode(b"[" * 20_000).decode(),
        "meta=" + base64.urlsafe_b64encode(b"\xff").decode(),
        "meta=a b",
        "inject=" + _packed({"src": "/a.js"}),
        "inject=" + _packed([{"src": ""}]),
        "inject=" + _packed([{"src": 1}]),
        "inject=" + _packed([{"src": "/a.js", "async": "yes"}]),
        "inject=" + _packed([{"src": "/a.js", "pathRegex": 1}]),
        "inject=" + _packed([{"src": "/a.js", "evil": 1}]),
        "inject=" + _packed([{"src": "/a.js"}] * 101),
        "access=private;access=public",
        "access",
        "=",
    ],
)
def test_what_does_not_decode_to_what_it_should_be_is_refused(tail: str) -> None:
    with pytest.raises(InvalidForwardRequest):
        ForwardRequest.parse(f"/a#{tail}")


def test_a_script_keeps_all_it_says() -> None:
    entry = {"src": "/a.js", "async": True, "defer": True, "pathRegex": "^/x"}

    assert ForwardRequest.parse(f"/a#inject={_packed([entry])}").inject == (Script("/a.js", True, True, "^/x"),)
