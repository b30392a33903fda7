"""The TLS port among containers, and certificates in secrets that belong to others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from certs import Pair, make_pair
from peers import HOST, PrivateNetwork

SECRET = {"TLS_CERT_FILE": "/secret/cert.crt", "TLS_KEY_FILE": "/secret/cert.key", "BASE_URL": f"https://{HOST}:8443"}
THROUGH_TLS = (
    f"openssl s_client -quiet -verify_return_error -CAfile /ca -alpn ssh -servername {HOST} -connect {HOST}:8443"
)
SOMEBODY = "54321:54321"


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """A certificate of the server's names; its group may read it, others may not."""
    made = make_pair(tmp_path, HOST, f"*.{HOST}")
    tmp_path.chmod(0o755)
    for file in (made.cert, made.key):
        file.chmod(0o440)
    return made


@pytest.mark.usefixtures("app")
def test_one_port_serves_https_http2_and_ssh_with_the_certificate_of_a_secret_of_its_group(
    network: PrivateNetwork, pair: Pair, key: bytes
) -> None:
    ca = pair.ca.read_bytes()
    mounted = [(str(pair.cert.parent), "/secret", "ro")]
    network.server(environ=SECRET, volumes=mounted, user=SOMEBODY, group_add=[os.getgid()]).started()
    visitor = network.visitor(ca=ca)

    url = network.client(key, "-o", f"ProxyCommand={THROUGH_TLS}", HOST, ca=ca).url()

    for version, option in (("2", "--http2"), ("1.1", "--http1.1")):
        answer = visitor.get(url, "--cacert", "/ca", option)
        assert (answer.status, answer.version, answer.body) == (200, version, "hello from the app")
    assert visitor.get(url).status == 0  # not without trust in the CA


@pytest.mark.parametrize("folder", [0o755, 0o700])
def test_a_secret_that_it_may_not_read_is_named_at_once(network: PrivateNetwork, pair: Pair, folder: int) -> None:
    pair.cert.parent.chmod(folder)
    server = network.server(environ=SECRET, volumes=[(str(pair.cert.parent), "/secret", "ro")], user=SOMEBODY)

    assert server.ended() == 1
    assert "/secret/cert.crt: Permission denied to user 54321, group 54321" in server.log
