"""A real ACME server: Debian's pebble, with pebble-challtestsrv as the DNS that it asks."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import ssl
import subprocess
import time
import urllib.request
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from rig import need

from tunnel_server.domain.ports import DnsChallenge

START = 20.0  # seconds until both programs listen
EAB_KID = "kid-1"
EAB_KEY = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"


def free_port() -> int:
    """Return a port that nobody listens on, and that the system gives to no outgoing connection meanwhile."""
    while True:
        port = random.randrange(15_000, 32_000)  # below the ephemeral ports of Linux
        with closing(socket.socket()) as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


class Pebble:
    """Runs while entered. Every host name has the address 127.0.0.1, where challenges are looked for at
    ``http_port`` and ``tls_port``. One in five good nonces is refused, and nothing proved once is believed again.
    """

    def __init__(self, folder: Path, *, eab: bool = False, **environment: str) -> None:
        self._folder = folder
        self._eab = eab
        self._environment = environment
        self.port, self._management, self.http_port, self.tls_port = (free_port() for _ in range(4))
        self._dns, self._dns_management = free_port(), free_port()
        self.ca_file = folder / "ca.pem"
        self._programs: list[subprocess.Popen[bytes]] = []

    @property
    def directory_url(self) -> str:
        return f"https://127.0.0.1:{self.port}/dir"

    def __enter__(self) -> Self:
        need("pebble"), need("pebble-challtestsrv")
        self._folder.mkdir(parents=True, exist_ok=True)
        own_certificate(self._folder)
        self.start_dns()
        self.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.stop()

    def start(self) -> None:
        """Start the ACME server, with no memory of any before it."""
        config = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self._management}",
            "certificate": str(self._folder / "cert.pem"),
            "privateKey": str(self._folder / "key.pem"),
            "httpPort": self.http_port,
            "tlsPort": self.tls_port,
            "externalAccountBindingRequired": self._eab,
            "externalAccountMACKeys": {EAB_KID: EAB_KEY} if self._eab else {},
        }
        path = self._folder / "pebble.json"
        path.write_text(json.dumps({"pebble": config}))
        environment = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "20", "PEBBLE_AUTHZREUSE": "0"}
        self._run(
            [need("pebble"), "-config", str(path), "-dnsserver", f"127.0.0.1:{self._dns}"],
            self.port,
            environment | self._environment,
        )

    def start_dns(self) -> None:
        """Start the DNS server."""
        at = [f"-dns01=127.0.0.1:{self._dns}", f"-management=127.0.0.1:{self._dns_management}"]
        off = ["-http01=", "-https01=", "-tlsalpn01=", "-defaultIPv6="]
        self._run([need("pebble-challtestsrv"), *at, *off], self._dns_management, {})

    def stop(self) -> None:
        """Stop all that runs."""
        for program in self._programs:
            program.terminate()
        for program in self._programs:
            program.wait(10)
        self._programs.clear()

    def root(self) -> bytes:
        """Return the certificate that all of this server's certificates lead to, as PEM."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        with urllib.request.urlopen(f"https://127.0.0.1:{self._management}/roots/0", context=context) as answer:
            return bytes(answer.read())

    def tell_dns(self, command: str, **values: str) -> None:
        """Change what the DNS server answers."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._dns_management}/{command}", json.dumps(values).encode(), method="POST"
        )
        urllib.request.urlopen(request, timeout=5).close()

    def _run(self, command: list[str], port: int, environment: dict[str, str]) -> None:
        with (self._folder / f"{Path(command[0]).name}.log").open("ab") as log:
            program = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log)
        self._programs.append(program)
        deadline = time.monotonic() + START
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                assert program.poll() is None, f"{command[0]} ended"
                assert time.monotonic() < deadline, f"{command[0]} does not listen"
                time.sleep(0.02)


class PebbleDns(DnsChallenge):
    """Publishes TXT records on the DNS server that a Pebble asks."""

    def __init__(self, pebble: Pebble) -> None:
        self._pebble = pebble
        self.published: list[str] = []
        self.standing: set[tuple[str, str]] = set()

    async def publish(self, name: str, value: str) -> None:
        await asyncio.to_thread(self._pebble.tell_dns, "set-txt", host=name + ".", value=value)
        self.published.append(name)
        self.standing.add((name, value))

    async def remove(self, name: str, value: str) -> None:
        await asyncio.to_thread(self._pebble.tell_dns, "clear-txt", host=name + ".")
        self.standing.discard((name, value))


def own_certificate(folder: Path) -> None:
    """Write what an ACME server on 127.0.0.1 needs: cert.pem and key.pem, and ca.pem to verify it with."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test CA")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().issuer_name(ca_name)
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=2))
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    ca = (
        builder.subject_name(ca_name)
        .public_key(ca_key.public_key())
        .serial_number(1)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    own = (
        builder.subject_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(2)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))
    (folder / "cert.pem").write_bytes(own.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
