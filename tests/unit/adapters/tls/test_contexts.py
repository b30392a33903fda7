from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path

import pytest
from certs import Pair, make_pair, shake_hands

from tunnel_server.adapters.tls import groups
from tunnel_server.adapters.tls.contexts import TlsOptions, certificate_from, server_context
from tunnel_server.adapters.tls.pem import Pem
from tunnel_server.domain.errors import InvalidCertificate


def loaded(pair: Pair) -> ssl.SSLContext:
    pem = Pem("a source", pair.cert.read_bytes(), pair.key.read_bytes(), "the chain", "the key")
    return certificate_from(pem, TlsOptions()).context


def shake(pair: Pair, server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    to_client, from_client, to_server, from_server = (ssl.MemoryBIO() for _ in range(4))
    visitor = client.wrap_bio(to_client, from_client)
    sides = visitor, server.wrap_bio(to_server, from_server, server_side=True)
    shake_hands(*sides, (from_client, to_server), (from_server, to_client))
    return visitor


def test_there_is_neither_renegotiation_nor_compression() -> None:
    context = server_context(TlsOptions())

    assert context.options & ssl.OP_NO_RENEGOTIATION and context.options & ssl.OP_NO_COMPRESSION
    assert (context.minimum_version, context.maximum_version) == (
        ssl.TLSVersion.TLSv1_2,
        ssl.TLSVersion.MAXIMUM_SUPPORTED,
    )


def test_every_cipher_is_of_the_profile() -> None:
    offered = {cipher["name"] for cipher in server_context(TlsOptions()).get_ciphers()}

    assert offered == {
        "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
        "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
    }  # fmt: skip


@pytest.mark.parametrize("first", ["ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256"])
def test_the_client_s_order_of_ciphers_decides(tmp_path: Path, first: str) -> None:
    pair = make_pair(tmp_path, "a.test")
    client = pair.client_context()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(f"{first}:ECDHE+AESGCM:ECDHE+CHACHA20")

    cipher = shake(pair, loaded(pair), client).cipher()

    assert cipher is not None and cipher[0] == first


def test_a_key_goes_to_no_disk_where_memory_can_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(os, "memfd_create"):
        pytest.skip("this system has no files in memory")
    pair = make_pair(tmp_path, "a.test")

    def refuse(*words: object) -> None:
        raise AssertionError("a temporary file")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    before = os.listdir("/proc/self/fd")

    shake(pair, loaded(pair), pair.client_context())

    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_elsewhere_a_temporary_file_is_used_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = make_pair(tmp_path, "a.test")
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.delattr(os, "memfd_create", raising=False)

    shake(pair, loaded(pair), pair.client_context())

    assert list(folder.iterdir()) == []


def test_where_the_library_cannot_be_told_for_sure_tls_works_with_its_own_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if hasattr(ssl.SSLContext, "set_groups"):
        pytest.skip("this Python sets groups by itself")
    pair = make_pair(tmp_path, "a.test")
    monkeypatch.setattr(groups, "_openssl", lambda: None)

    assert not groups.limit_groups(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    shake(pair, loaded(pair), pair.client_context())


def test_an_openssl_that_is_not_python_s_own_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl, "OPENSSL_VERSION", "OpenSSL of another")

    assert groups._openssl.__wrapped__() is None


@pytest.mark.parametrize("read", [True, False])
def test_a_pipe_is_no_key_log_whether_somebody_reads_it_or_not(tmp_path: Path, read: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK) if read else None
    try:
        with pytest.raises(InvalidCertificate, match="cannot write the key log"):
            server_context(TlsOptions(key_log=tmp_path / "pipe"))
    finally:
        if reader is not None:
            os.close(reader)
