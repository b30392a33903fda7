from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from certs import Pair, make_pair
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tunnel_server.adapters.tls.contexts import TlsOptions
from tunnel_server.adapters.tls.pairs import Sources
from tunnel_server.adapters.tls.watch import Changes, Watch


class Clock:
    """The system's time, and what a test adds."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "certs"
    folder.mkdir()
    for name in ("a", "b"):
        put(make_pair(tmp_path, f"{name}.test"), folder, name)
    return folder


def put(pair: Pair, folder: Path, stem: str) -> None:
    shutil.copy(pair.cert, folder / f"{stem}.crt")
    shutil.copy(pair.key, folder / f"{stem}.key")


def watch(folder: Path, clock: Clock) -> Watch:
    watch = Watch(Sources(directory=folder), TlsOptions(), clock)
    assert [one.names for one in watch.first().found] == [("a.test",), ("b.test",)]
    return watch


def nothing(changes: Changes) -> bool:
    return not (changes.found or changes.refused or changes.gone)


def test_what_did_not_change_is_not_told(folder: Path, clock: Clock) -> None:
    watched = watch(folder, clock)

    assert all(nothing(watched.again()) for _ in range(3))


def test_what_is_gone_is_told_at_the_second_look_and_once(folder: Path, clock: Clock) -> None:
    watched = watch(folder, clock)
    for file in ("a.crt", "a.key"):
        (folder / file).unlink()

    assert nothing(watched.again())
    assert watched.again().gone == [str(folder / "a.crt")]
    assert nothing(watched.again())


def test_a_pair_that_is_written_anew_by_deleting_it_first_is_never_gone(
    folder: Path, clock: Clock, tmp_path: Path
) -> None:
    watched = watch(folder, clock)
    for file in ("a.crt", "a.key"):
        (folder / file).unlink()
    first = watched.again()
    put(make_pair(tmp_path, "new.test"), folder, "a")
    second = watched.again()

    assert nothing(first)
    assert ([one.names for one in second.found], second.gone) == ([("new.test",)], [])
    assert all(nothing(watched.again()) for _ in range(3))


def test_what_is_broken_is_told_at_the_second_look_and_once(folder: Path, clock: Clock) -> None:
    watched = watch(folder, clock)
    (folder / "a.key").write_bytes(b"garbage")

    assert nothing(watched.again())
    ((source, _),) = watched.again().refused
    assert source == str(folder / "a.crt")
    assert all(nothing(watched.again()) for _ in range(3))


def test_a_certificate_between_its_key_s_is_never_told_if_the_key_follows_at_once(
    folder: Path, clock: Clock, tmp_path: Path
) -> None:
    watched = watch(folder, clock)
    fresh = make_pair(tmp_path, "new.test")
    shutil.copy(fresh.cert, folder / "a.crt")
    first = watched.again()
    shutil.copy(fresh.key, folder / "a.key")
    second = watched.again()

    assert nothing(first)
    assert ([one.names for one in second.found], second.refused) == ([("new.test",)], [])


def test_a_file_that_changed_just_now_is_read_again_as_its_times_may_not_tell_of_the_next_change(
    folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = watch(folder, clock)
    watched.again()
    monkeypatch.setattr("tunnel_server.adapters.tls.pairs.MAX_SIZE", 0)  # whatever is read is refused from now on

    watched.again()
    assert len(watched.again().refused) == 2


def test_a_file_that_changed_long_ago_is_not_read_again(
    folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = watch(folder, clock)
    clock.ahead = 60.0
    watched.again()
    monkeypatch.setattr("tunnel_server.adapters.tls.pairs.MAX_SIZE", 0)

    assert all(nothing(watched.again()) for _ in range(3))


def test_two_hundred_pairs_that_do_not_change_cost_next_to_nothing(folder: Path, clock: Clock, tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "a.test")
    for number in range(200):
        put(pair, folder, f"n{number}")
    watched = Watch(Sources(directory=folder), TlsOptions(), clock)
    watched.first()
    clock.ahead = 60.0
    watched.again()
    began = time.process_time()

    assert all(nothing(watched.again()) for _ in range(5))

    assert (time.process_time() - began) / 5 < 0.1


def test_a_certificate_with_names_that_nobody_can_read_is_refused_and_others_are_reloaded(
    folder: Path, clock: Clock, tmp_path: Path
) -> None:
    watched = watch(folder, clock)
    put_odd(folder, "odd")
    put(make_pair(tmp_path, "new.test"), folder, "a")

    looks = [watched.again() for _ in range(3)]

    assert [one.names for look in looks for one in look.found] == [("new.test",)]
    [(source, error)] = [entry for look in looks for entry in look.refused]
    assert "odd.crt" in source
    assert "the names in the certificate are malformed" in str(error)


def put_odd(folder: Path, stem: str) -> None:
    """Lay down a certificate whose alternative name is an x400Address (RFC 5280 §4.2.1.6), and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "odd")])
    alternative = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), bytes.fromhex("3002a300"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 5, now - timedelta(days=1), now + timedelta(days=9))
        .add_extension(alternative, critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / f"{stem}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / f"{stem}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
