"""What the scanners that people point at a public server say of this one: sslyze, ssh-audit."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from certs import Pair, make_pair
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from rig import Rig, need

# Both want versions of libraries that the server does not, so they may live in an environment of their own.
SCANNERS = Path(__file__).parents[2] / ".venv-scan" / "bin"
SCAN_LIMIT = 60.0  # seconds; a scan opens some 300 connections

HOST = "tunnels.test"


@pytest.fixture(autouse=True)
def _scanners_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{SCANNERS}")


@pytest.fixture
def lean_ssh() -> bool:
    """What a scanner sees is the same with both packet paths."""
    return True


async def scan(*command: str) -> tuple[int, str]:
    """Run a scanner; return its exit status and all that it said."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(SCAN_LIMIT):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out.decode()


# TLS


def make_ca(folder: Path) -> None:
    """Make a CA as the Web's are, with the use of its key stated, which sslyze asks of one before it trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "scanned CA")])
    now = datetime.now(UTC)
    nothing_else = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
    )
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(**nothing_else, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(cert.public_bytes(Encoding.PEM))
    (folder / "ca-key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.fixture(params=[False, True], ids=["ecdsa", "rsa"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Pair:
    make_ca(tmp_path)
    return make_pair(tmp_path, HOST, f"*.{HOST}", rsa_key=request.param)


@pytest.fixture
async def https(make_rig: Callable[..., Any], pair: Pair) -> AsyncIterator[Rig]:
    async with make_rig(tls_cert_file=str(pair.cert), tls_key_file=str(pair.key)) as running:
        yield running


async def test_sslyze_finds_no_weakness_and_mozillas_intermediate_profile_kept(https: Rig, pair: Pair) -> None:
    report = https.folder / "sslyze.json"
    options = ["--mozilla_config=intermediate", "--certinfo_ca_file", str(pair.ca), "--json_out", str(report)]
    options += ["--early_data", "--resum"]

    status, said = await scan(need("sslyze"), *options, f"{HOST}:{https.tls.port}{{127.0.0.1}}")

    assert status == 0, said
    assert f"{HOST}:{https.tls.port}: OK - Compliant" in said
    assert weaknesses(found_in(report)) == []


def found_in(report: Path) -> dict[str, Any]:
    """Return each scan's result by name; all that were begun have to have ended well."""
    [server] = json.loads(report.read_text())["server_scan_results"]
    assert server["scan_status"] == "COMPLETED"
    scans = {name: scan for name, scan in server["scan_result"].items() if scan["status"] != "NOT_SCHEDULED"}
    assert {name: scan["error_reason"] for name, scan in scans.items() if scan["status"] != "COMPLETED"} == {}
    return {name: scan["result"] for name, scan in scans.items()}


def weaknesses(found: dict[str, Any]) -> list[str]:
    """Return what is wrong of all that would be of medium severity or above."""
    renegotiation = found["session_renegotiation"]
    wrong = {
        "an old version": any(
            found[f"{version}_cipher_suites"]["is_tls_version_supported"]
            for version in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1")
        ),
        "no TLS 1.2": not found["tls_1_2_cipher_suites"]["is_tls_version_supported"],
        "no TLS 1.3": not found["tls_1_3_cipher_suites"]["is_tls_version_supported"],
        "a suite without forward secrecy": not all(
            "_ECDHE_" in suite["cipher_suite"]["name"]
            for suite in found["tls_1_2_cipher_suites"]["accepted_cipher_suites"]
        ),
        "CRIME": found["tls_compression"]["supports_compression"],
        "Heartbleed": found["heartbleed"]["is_vulnerable_to_heartbleed"],
        "CCS injection": found["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"],
        "ROBOT": not found["robot"]["robot_result"].startswith("NOT_VULNERABLE"),
        "downgrades": not found["tls_fallback_scsv"]["supports_fallback_scsv"],
        "insecure renegotiation": not renegotiation["supports_secure_renegotiation"],
        "costly renegotiation": renegotiation["is_vulnerable_to_client_renegotiation_dos"]
        or renegotiation["client_renegotiations_success_count"] > 0,
        "no extended master secret": not found["tls_extended_master_secret"]["supports_ems_extension"],
        "replayable early data": found["tls_1_3_early_data"]["supports_early_data"],
        "a curve that is out of use": not {curve["name"] for curve in found["elliptic_curves"]["supported_curves"]}
        <= {"X25519", "secp256r1", "secp384r1"},
    }
    return [name for name, so in wrong.items() if so]


async def test_sessions_are_resumed(https: Rig) -> None:
    report = https.folder / "sslyze.json"
    options = ["--mozilla_config=disable", "--resum", "--json_out", str(report)]

    _, said = await scan(need("sslyze"), *options, f"{HOST}:{https.tls.port}{{127.0.0.1}}")

    assert found_in(report)["session_resumption"]["tls_ticket_resumption_result"] == "FULLY_SUPPORTED", said


# SSH

POST_QUANTUM = "does not provide protection against post-quantum attacks"

# For OpenSSH before 9.9, and most other clients: they have no post-quantum exchange that the server has, too.
ACCEPTED = {
    ("kex", "curve25519-sha256", POST_QUANTUM),
    ("kex", "curve25519-sha256@libssh.org", POST_QUANTUM),
}


async def test_ssh_audit_has_no_failure_and_warns_of_classical_key_exchanges_only(
    make_rig: Callable[..., Any],
) -> None:
    # Its test of rates asks whether 20 connections a second are let in, for the sake of finite-field exchanges, of
    # which none is offered; how many may be in the lobby, and whose, has tests of its own.
    options = ["--json", "--skip-rate-test", "--port"]
    async with make_rig() as rig:
        _, said = await scan(need("ssh-audit"), *options, str(rig.ssh.port), "127.0.0.1")

    audit = json.loads(said)
    assert remarks(audit, "fail") == set()
    assert remarks(audit, "warn") == ACCEPTED
    assert audit["cves"] == []
    assert audit["additional_notes"] in ([], [""])


def remarks(audit: dict[str, Any], level: str) -> set[tuple[str, str, str]]:
    """Return kind, algorithm and text of everything said at that level."""
    kinds = ("kex", "key", "enc", "mac")
    assert all(audit[kind] for kind in kinds), "nothing was looked at"
    return {
        (kind, entry["algorithm"], text)
        for kind in kinds
        for entry in audit[kind]
        for text in entry["notes"].get(level, [])
    }
