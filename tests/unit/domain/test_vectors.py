"""What clients of the reference server see, they see here."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tunnel_server.domain.errors import InvalidForwardRequest
from tunnel_server.domain.forward import ForwardRequest
from tunnel_server.domain.identity import ClientId, Thumbprint
from tunnel_server.domain.naming import host_label

VECTORS = json.loads((Path(__file__).parent / "reference-vectors.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["clientIds"], ids=lambda v: v["clientId"])
def test_a_key_has_the_id_and_thumbprint_of_the_reference(vector: dict[str, str]) -> None:
    blob = base64.b64decode(vector["publicKey"].split()[1])

    assert str(ClientId.from_public_key(blob)) == vector["clientId"]
    assert str(Thumbprint.from_public_key(blob)) == vector["thumbprint"]


@pytest.mark.parametrize("vector", VECTORS["labels"], ids=lambda v: v["remotePath"][:20])
def test_a_name_has_the_label_of_the_reference(vector: dict[str, str]) -> None:
    if "error" in vector:
        with pytest.raises(ValueError, match="not a client id"):
            ClientId(vector["clientId"])
        return

    assert host_label(vector["remotePath"].removeprefix("/"), ClientId(vector["clientId"])) == vector["label"]


@pytest.mark.parametrize("vector", VECTORS["forwardRequests"], ids=lambda v: v["request"][:30])
def test_a_forward_request_is_read_like_the_reference_reads_it(vector: dict[str, Any]) -> None:
    if "error" in vector:
        with pytest.raises(InvalidForwardRequest):
            ForwardRequest.parse(vector["request"])
        return

    parsed = ForwardRequest.parse(vector["request"])

    expected = vector["parsed"]
    assert (parsed.name, str(parsed.access)) == (expected["path"], expected["access"])
    assert parsed.meta == expected.get("meta")
    assert [script.src for script in parsed.inject] == [entry["src"] for entry in expected.get("inject", [])]
