"""Tokens, signed by real SSH keys of every type."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from joserfc.jwk import OKPKey
from joserfc.jws import serialize_compact

from tunnel_server.house.private_tunnels.keys import Unusable, of_pem, of_ssh
from tunnel_server.house.private_tunnels.signatures import verified
from tunnel_server.house.private_tunnels.tokens import MAX_TOKEN, TokenRefused, issuer

NOW = 1_800_000_000.0
KINDS = [
    ("ssh-ed25519", "EdDSA"),
    ("ssh-ed25519", "Ed25519"),
    ("ecdsa-sha2-nistp256", "ES256"),
    ("ecdsa-sha2-nistp384", "ES384"),
    ("ecdsa-sha2-nistp521", "ES512"),
    ("ssh-rsa", "RS256"),
    ("ssh-rsa", "PS256"),
    ("ssh-rsa", "RS512"),
    ("ssh-rsa", "PS512"),
]


def read(token: str, blob: bytes, now: float = NOW) -> dict[str, Any]:
    issuer(token)
    return verified(token, of_ssh(blob), now)


def part(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(("kind", "algorithm"), KINDS)
def test_a_key_verifies_what_it_signed(owner_of: Callable[..., Any], kind: str, algorithm: str) -> None:
    owner = owner_of(kind)

    claims = read(owner.token(algorithm), owner.blob)

    assert claims["iss"] == f"preevy://{owner.thumbprint}"


@pytest.mark.parametrize(("kind", "algorithm"), KINDS)
def test_another_key_of_its_type_does_not_verify_it(owner_of: Callable[..., Any], kind: str, algorithm: str) -> None:
    owner, other = owner_of(kind), owner_of(kind)

    with pytest.raises(TokenRefused):
        read(owner.token(algorithm), other.blob)


def test_a_header_may_say_more(owner: Any) -> None:
    token = owner.token(header={"thumbprint": owner.thumbprint, "kid": "k", "typ": "JWT"})

    claims = read(token, owner.blob)

    assert claims["iat"] == NOW


def test_a_critical_header_that_is_not_known_is_refused(owner: Any) -> None:
    head, payload, signature = owner.token().split(".")
    hostile = part({"alg": "EdDSA", "crit": ["exp"], "exp": 1})

    with pytest.raises(TokenRefused):
        read(f"{hostile}.{payload}.{signature}", owner.blob)
    assert head != hostile


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW},
        {"exp": NOW - 1},
        {"exp": 0},
        {"exp": -(10**300)},
        {"nbf": NOW + 60},
        {"iat": NOW + 60},
        {"exp": "tomorrow"},
        {"exp": True},
        {"exp": [NOW + 60]},
        {"exp": {"a": NOW}},
        {"nbf": "now"},
        {"iat": "now"},
        {"iss": 7},
        {"iss": ""},
        {"iss": None},
    ],
    ids=str,
)
def test_a_token_that_is_not_valid_now_is_refused(owner: Any, claims: dict[str, Any]) -> None:
    token = owner.token(**claims)

    with pytest.raises(TokenRefused):
        read(token, owner.blob)


@pytest.mark.parametrize("claims", [{"exp": NOW + 1}, {"nbf": NOW + 4}, {"iat": NOW + 4}, {"exp": None}], ids=str)
def test_a_token_that_is_valid_by_a_little_is_taken(owner: Any, claims: dict[str, Any]) -> None:
    token = owner.token(**claims)

    assert read(token, owner.blob)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" * 5000])
def test_an_end_that_is_no_number_is_refused(owner: Any, number: str) -> None:
    key = OKPKey.import_key(owner.key.export_private_key("pkcs8-pem"))
    payload = f'{{"iss": "preevy://{owner.thumbprint}", "exp": {number}}}'
    token = serialize_compact({"alg": "Ed25519"}, payload, key, algorithms=["Ed25519"])

    with pytest.raises(TokenRefused):
        read(token, owner.blob)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
def test_a_token_without_signature_is_refused(owner: Any, algorithm: str) -> None:
    payload = part({"iss": f"preevy://{owner.thumbprint}", "exp": NOW + 60})

    for signature in ("", "AAAA"):
        with pytest.raises(TokenRefused):
            read(f"{part({'alg': algorithm})}.{payload}.{signature}", owner.blob)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_public_key_is_no_shared_secret(owner_of: Callable[..., Any], algorithm: str) -> None:
    owner = owner_of("ssh-rsa")
    text = f"{part({'alg': algorithm})}.{part({'iss': f'preevy://{owner.thumbprint}', 'exp': NOW + 60})}"

    for secret in (
        owner.blob,
        owner.key.export_public_key(),
        owner.public_pem.encode(),
        owner.public_pem.strip().encode(),
    ):
        mac = hmac.digest(secret, text.encode(), f"sha{algorithm[2:]}")
        with pytest.raises(TokenRefused):
            read(f"{text}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}", owner.blob)


def test_the_algorithm_is_the_keys_and_not_the_tokens(owner_of: Callable[..., Any]) -> None:
    owner, other = owner_of("ecdsa-sha2-nistp256"), owner_of("ecdsa-sha2-nistp384")
    token = other.token("ES384", iss=f"preevy://{owner.thumbprint}")

    with pytest.raises(TokenRefused):
        read(token, owner.blob)


def test_a_changed_claim_is_refused(owner: Any) -> None:
    head, _, signature = owner.token().split(".")
    other = part({"iss": f"preevy://{owner.thumbprint}", "exp": NOW + 10**6})

    with pytest.raises(TokenRefused):
        read(f"{head}.{other}.{signature}", owner.blob)


GARBAGE = [
    "", ".", "..", "...", "a", "a.b", "a.b.c", "a.b.c.d.e", "é.é.é", "\ud800.a.b", "\x00.\x00.\x00", "=.=.=",
    "💥.💥.💥",
    f"{part([])}.{part([])}.x",
    f"{part('7')}.{part('7')}.x",
    f"{part({'alg': 'EdDSA'})}.{part('[' * 5000)}.x",
    f"{part('[' * 5000)}.{part({'iss': 'a'})}.x",
    f"{part({'alg': []})}.{part({'iss': 'a'})}.x",
    f"{part({'alg': {}})}.{part({'iss': 'a'})}.x",
    f"{part({'alg': 7})}.{part({'iss': 'a'})}.x",
    f"{part({})}.{part({'iss': 'a'})}.x",
    f"{part({'alg': 'EdDSA', 'crit': ['b64'], 'b64': False})}.{part({'iss': 'a'})}.x",
    f"{part({'alg': 'EdDSA', 'kid': {}})}.{part({'iss': 'a'})}.x",
    f"{part({'alg': 'EdDSA', 'jwk': {'kty': 'oct', 'k': 'AA'}})}.{part({'iss': 'a'})}.x",
    f"{part({'alg': 'EdDSA', 'enc': 'A128GCM'})}.{part({'iss': 'a'})}.x",
    f"{part({'alg': 'EdDSA'})}.{part({'iss': 'a'})}.{'é' * 20}",
    f"{part({'alg': 'EdDSA'})}.{part({'iss': 'a'})}.{'A' * 4000}",
    part(b"\xff\xfe".decode("latin-1")) + ".a.b",
    "a" * (MAX_TOKEN + 1),
    f"{part({'alg': 'EdDSA', 'x': 'y' * MAX_TOKEN})}.{part({'iss': 'a'})}.x",
]  # fmt: skip


@pytest.mark.parametrize("token", GARBAGE, ids=lambda token: repr(token[:24]))
def test_garbage_is_refused_and_nothing_else_happens(owner: Any, token: str) -> None:
    with pytest.raises(TokenRefused):
        read(token, owner.blob)


def test_every_cut_of_a_token_is_refused(owner: Any) -> None:
    token = owner.token()

    for end in range(len(token)):
        with pytest.raises(TokenRefused):
            read(token[:end], owner.blob)


def test_a_security_key_signs_no_tokens(owner: Any) -> None:
    inner = owner.blob[-36:]  # the point, its length before it
    kind, application = b"sk-ssh-ed25519@openssh.com", b"ssh:"
    blob = len(kind).to_bytes(4, "big") + kind + inner + len(application).to_bytes(4, "big") + application

    with pytest.raises(Unusable):
        of_ssh(blob)


@pytest.mark.parametrize(
    "blob", [b"", b"\0", b"\0\0\0\x0bssh-ed25519", b"\0\0\0\x07ssh-dss" + b"\0" * 40, b"\xff" * 70_000]
)
def test_what_is_no_key_is_refused(blob: bytes) -> None:
    with pytest.raises(Unusable):
        of_ssh(blob)


def rsa_blob(exponent: int, modulus: int) -> bytes:
    def mpint(value: int) -> bytes:
        octets = value.to_bytes(value.bit_length() // 8 + 1, "big")
        return len(octets).to_bytes(4, "big") + octets

    return b"\0\0\0\x07ssh-rsa" + mpint(exponent) + mpint(modulus)


@pytest.mark.parametrize(
    ("exponent", "bits"), [(65537, 1024), (65537, 16384), ((1 << 64) + 13, 2048), ((1 << 2000) + 1, 2048)]
)
def test_an_rsa_key_that_is_weak_or_slow_is_refused(exponent: int, bits: int) -> None:
    blob = rsa_blob(exponent, (1 << bits - 1) + 1)

    with pytest.raises(Unusable):
        of_ssh(blob)


def test_pem_text_is_read(owner_of: Callable[..., Any]) -> None:
    key = of_pem(owner_of("ecdsa-sha2-nistp384").public_pem)

    assert key.algorithms == {"ES384"}


def test_a_private_key_in_place_of_the_public_one_is_refused_without_showing_it(owner: Any) -> None:
    pem = owner.key.export_private_key("pkcs8-pem").decode()

    with pytest.raises(Unusable) as error:
        of_pem(pem)

    assert not any(line in str(error.value) for line in pem.splitlines()[1:-1])


@pytest.mark.parametrize("text", ["", "x", "é", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"])
def test_what_is_no_pem_text_is_refused(text: str) -> None:
    with pytest.raises(Unusable):
        of_pem(text)
