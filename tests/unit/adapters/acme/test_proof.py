"""The answers to challenges."""

from __future__ import annotations

import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tunnel_server.adapters.acme.proof import Answers, Proof


def proof(kind: str, host: str = "a.example.de", token: str = "token") -> Proof:
    return Proof(kind, host, token, f"{token}.thumbprint", "https://ca/challenge", "https://ca/authorization")


def test_an_http_answer_stands_from_give_to_withdraw() -> None:
    answers = Answers()
    answers.give(proof("http-01"))

    assert answers.http("/.well-known/acme-challenge/token") == b"token.thumbprint"
    assert not answers.pending_alpn
    answers.withdraw(proof("http-01"))
    assert answers.http("/.well-known/acme-challenge/token") is None


@pytest.mark.parametrize(
    "path",
    ["", "/", "token", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/TOKEN", "/x/token",
     "/.well-known/acme-challenge/token/", "/.well-known/acme-challenge/../acme-challenge/token"],
)  # fmt: skip
def test_no_other_path_has_an_answer(path: str) -> None:
    answers = Answers()
    answers.give(proof("http-01"))

    assert answers.http(path) is None


def test_a_certificate_for_tls_alpn_01_is_as_rfc_8737_wants_it() -> None:
    answers = Answers()
    answers.give(proof("tls-alpn-01"))
    assert answers.pending_alpn
    found = answers.alpn("A.Example.DE")
    assert found is not None

    certificate = x509.load_pem_x509_certificate(found[0])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert [name.value for name in names.value] == ["a.example.de"]
    identifier = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31"))
    assert identifier.critical
    assert identifier.value.public_bytes() == b"\x04\x20" + hashlib.sha256(b"token.thumbprint").digest()
    assert load_pem_private_key(found[1], None).public_key() == certificate.public_key()

    assert answers.alpn("b.example.de") is None
    answers.withdraw(proof("tls-alpn-01"))
    assert not answers.pending_alpn
    assert answers.alpn("a.example.de") is None


def test_a_record_for_dns_01_is_as_rfc_8555_wants_it() -> None:
    # the value by: openssl dgst -sha256 -binary | base64
    assert proof("dns-01").dns_name == "_acme-challenge.a.example.de"
    assert len(proof("dns-01").dns_value) == 43
    assert proof("dns-01").dns_value == "61rBZ_4knHblO0MNoxFsXZ_eTFUHum0B6IVRbhvUn5I"
