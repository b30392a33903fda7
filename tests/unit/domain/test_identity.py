from __future__ import annotations

import base64
import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel_server.domain.errors import InvalidPublicKey
from tunnel_server.domain.identity import Thumbprint

BLOBS = [
    base64.b64decode(vector["publicKey"].split()[1])
    for vector in json.loads((Path(__file__).parent / "reference-vectors.json").read_text())["clientIds"]
]


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def test_a_security_key_has_the_thumbprint_of_the_key_inside() -> None:
    point = bytes(range(32))
    plain = _string(b"ssh-ed25519") + _string(point)
    security = _string(b"sk-ssh-ed25519@openssh.com") + _string(point) + _string(b"ssh:")

    assert Thumbprint.from_public_key(security) == Thumbprint.from_public_key(plain)


@given(st.sampled_from(BLOBS), st.integers(0, 300), st.binary(max_size=4))
def test_a_mutilated_key_is_refused_or_another_key(blob: bytes, at: int, patch: bytes) -> None:
    mutilated = blob[:at] + patch + blob[at + 1 :]

    with contextlib.suppress(InvalidPublicKey):
        Thumbprint.from_public_key(mutilated)
    with pytest.raises(InvalidPublicKey):
        Thumbprint.from_public_key(blob + b"\0")


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail_otherwise(blob: bytes) -> None:
    with contextlib.suppress(InvalidPublicKey):
        Thumbprint.from_public_key(blob)
