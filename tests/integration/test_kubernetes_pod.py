"""The pod of deploy/kubernetes, run with the image as the kubelet would run it."""

from __future__ import annotations

import socket
from base64 import b64decode, b64encode
from pathlib import Path

import asyncssh
import pytest
from certs import Pair, make_pair
from containers import wait_until
from cryptography import x509
from kubernetes import one
from kubernetes_made import kustomizations
from pod import Pod


@pytest.mark.parametrize("overlay", ["tls", "OpenShift"])
async def test_the_pod_runs_keeps_its_identity_and_takes_a_new_certificate(
    overlay: str, tmp_path: Path, image: str
) -> None:
    pair = make_pair(tmp_path, "tunnels.example.com", "*.tunnels.example.com", stem="first")
    manifests = kustomizations(tmp_path, pair)[overlay]
    server = Pod(manifests, image)

    server.start()

    assert server.passes("readinessProbe")
    assert server.passes("livenessProbe")
    key = await asyncssh.get_server_host_key("127.0.0.1", server.port("ssh"))
    mounted = b64decode(one(manifests, "Secret", "tunnel-server-ssh")["data"]["ssh_host_key"])
    assert key is not None
    assert key.public_data == asyncssh.import_private_key(mounted).public_data

    newer = make_pair(tmp_path, "tunnels.example.com", "*.tunnels.example.com", stem="newer")
    assert _served(server.port("tls"), pair) == _serial(pair)
    server.write("tls", {"tls.crt": _text(newer.cert), "tls.key": _text(newer.key)})
    wait_until(lambda: _served(server.port("tls"), pair) == _serial(newer), "the new certificate is served")

    status, took = server.stop()
    assert status == 0
    assert took < server.spec["terminationGracePeriodSeconds"]


def test_a_secret_without_the_host_key_s_name_ends_the_pod_which_says_so(tmp_path: Path, image: str) -> None:
    pair = make_pair(tmp_path, "tunnels.example.com", "*.tunnels.example.com")
    manifests = kustomizations(tmp_path, pair)["tls"]
    secret = one(manifests, "Secret", "tunnel-server-ssh")
    secret["data"] = {"id_ed25519": secret["data"]["ssh_host_key"]}

    # A key of its own would be another at each start, and clients would refuse every one.
    with pytest.raises(AssertionError, match=r"it ended: .*/etc/tunnel-server/ssh/ssh_host_key.*SSH_HOST_KEY"):
        Pod(manifests, image).start()


def _text(file: Path) -> str:
    return b64encode(file.read_bytes()).decode()


def _served(port: int, pair: Pair) -> int:
    """Return the serial number of the certificate that a visitor of a tunnel is shown, and trusts."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        with pair.client_context("http/1.1").wrap_socket(raw, server_hostname="web.tunnels.example.com") as tls:
            shown = tls.getpeercert()
            assert shown
            return int(str(shown["serialNumber"]), 16)


def _serial(pair: Pair) -> int:
    return x509.load_pem_x509_certificate(pair.cert.read_bytes()).serial_number
