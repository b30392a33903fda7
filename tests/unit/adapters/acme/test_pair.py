"""Certificates are looked at before they are believed."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import assume, given
from hypothesis import strategies as st

from tunnel_server.adapters.acme.pair import Pair, key_pem, new_key, read_key, signing_request

HOST = "a.example.de"
BEGIN = datetime(2030, 1, 1, tzinfo=UTC)
KEY = new_key()


def chain(host: str | None = HOST, key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    """Return a certificate that signs itself."""
    name = x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
    builder = builder.not_valid_before(BEGIN).not_valid_after(BEGIN + timedelta(days=90)).public_key(key.public_key())
    if host is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


FILE = Pair.check(HOST, chain(), key_pem(KEY)).to_file()


def test_a_pair_tells_its_times_and_survives_being_written() -> None:
    pair = Pair.check(HOST, chain(), key_pem(KEY))

    assert pair.not_before == BEGIN.timestamp()
    assert pair.not_after - pair.not_before == 90 * 86400
    assert Pair.from_file(HOST, pair.to_file()) == pair


def test_what_is_no_certificate_is_left_out_of_the_chain() -> None:
    own, issuer = chain(), chain("other.de")
    noisy = b"hello\n" + own + key_pem(new_key()) + issuer + b"\x00"

    assert Pair.check(HOST, noisy, key_pem(KEY)).chain == own + issuer


@pytest.mark.parametrize(
    "bad",
    [b"", b"\xff", chain("b.de"), chain(None), chain(key=new_key()), chain()[:300], chain("other.de") + chain()],
    ids=["empty", "garbage", "other host", "no host", "other key", "cut", "wrong order"],
)
def test_a_chain_that_is_not_good_for_host_and_key_is_refused(bad: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Pair.check(HOST, bad, key_pem(KEY))


@given(st.binary(min_size=1, max_size=200), st.integers(0, len(FILE)))
def test_a_file_with_any_damage_is_refused(noise: bytes, at: int) -> None:
    damaged = FILE[:at] + noise + FILE[at + len(noise) :]
    assume(damaged != FILE)

    with pytest.raises(ValueError, match=r".+"):
        Pair.from_file(HOST, damaged)


def test_a_file_of_another_host_is_refused() -> None:
    with pytest.raises(ValueError, match="host"):
        Pair.from_file("b.example.de", FILE)


@given(st.binary(max_size=200), st.integers(0, 500))
def test_a_chain_with_damage_raises_nothing_but_value_error(noise: bytes, at: int) -> None:
    good = chain()
    with contextlib.suppress(ValueError):
        assert Pair.check(HOST, good[:at] + noise + good[at + len(noise) :], key_pem(KEY)).key == key_pem(KEY)


def test_a_key_of_another_kind_is_refused() -> None:
    for key in (ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()):
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with pytest.raises(ValueError, match="P-256"):
            read_key(pem)


def test_a_request_names_the_host_and_nothing_else() -> None:
    request = x509.load_pem_x509_csr(signing_request("*.example.de", KEY))

    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["*.example.de"]
    assert len(request.subject) == 0
    assert request.is_signature_valid
