from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from certs import make_pair
from cryptography import x509
from rig import need

from tunnel_server.adapters.tls.devca import DevTls, ensure_dev_certificate
from tunnel_server.domain.errors import InvalidCertificate

DAY = 86400.0


@contextmanager
def serving(made: DevTls) -> Iterator[int]:
    """Answer HTTPS on a loopback port, in a thread."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    listening = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                raw, _ = listening.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(raw, server_side=True) as tls:
                    tls.recv(4096)
                    tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
            except OSError:
                raw.close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


async def curl(port: int, host: str, *options: str) -> tuple[int | None, bytes]:
    process = await asyncio.create_subprocess_exec(
        need("curl"), "-sS", "--max-time", "10", "--noproxy", "*", "--resolve", f"{host}:{port}:127.0.0.1", *options,
        f"https://{host}:{port}/", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    return process.returncode, out


def verify(*words: str) -> None:
    subprocess.run([need("openssl"), "verify", *words], check=True, capture_output=True)


def leaf(made: DevTls) -> x509.Certificate:
    return x509.load_pem_x509_certificate(made.certificate.read_bytes())


@pytest.mark.parametrize("host", ["tunnels.test", "web-k.tunnels.test", "localhost", "127.0.0.1"])
async def test_curl_trusts_it_by_the_authority_and_not_without(tmp_path: Path, host: str) -> None:
    made = ensure_dev_certificate(tmp_path / "tls", "tunnels.test")

    with serving(made) as port:
        trusting = await curl(port, host, "--cacert", str(made.ca))
        wary = await curl(port, host)

    assert trusting == (0, b"hi")
    assert wary == (60, b"")  # CURLE_PEER_FAILED_VERIFICATION


async def test_the_authority_is_good_for_no_other_host(tmp_path: Path) -> None:
    from tunnel_server.adapters.tls import devca

    made = ensure_dev_certificate(tmp_path, "tunnels.test")
    stolen = devca._load(made.ca, tmp_path / "ca-key.pem")
    assert stolen is not None
    now = stolen[0].not_valid_before_utc + devca.SKEW
    devca._issue(made, stolen, devca._names("bank.test"), now)

    with serving(made) as port:
        assert (await curl(port, "bank.test", "--cacert", str(made.ca)))[0] == 60


def test_it_is_for_the_host_one_label_below_and_this_machine(tmp_path: Path) -> None:
    made = ensure_dev_certificate(tmp_path, "Tunnels.test")
    names = leaf(made).extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert names.get_values_for_type(x509.DNSName) == ["tunnels.test", "*.tunnels.test", "localhost", "*.localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert (leaf(made).not_valid_after_utc - leaf(made).not_valid_before_utc).days <= 366


@pytest.mark.parametrize(("host", "address"), [("192.0.2.7", "192.0.2.7"), ("[2001:db8::1]", "2001:db8::1")])
def test_a_host_may_be_an_address(tmp_path: Path, host: str, address: str) -> None:
    made = ensure_dev_certificate(tmp_path, host)
    names = leaf(made).extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert address in {str(one) for one in names.get_values_for_type(x509.IPAddress)}
    verify("-x509_strict", "-CAfile", str(made.ca), "-verify_ip", address, str(made.certificate))


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    first = ensure_dev_certificate(tmp_path, "tunnels.test")
    before = files()

    assert ensure_dev_certificate(tmp_path, "tunnels.test") == first
    assert files() == before


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    made = ensure_dev_certificate(tmp_path / "a" / "tls", "tunnels.test")
    folder = tmp_path / "a" / "tls"

    modes = {path.name: path.stat().st_mode & 0o777 for path in (folder, made.key, folder / "ca-key.pem")}

    assert modes == {"tls": 0o700, "key.pem": 0o600, "ca-key.pem": 0o600}


def test_thirty_days_before_its_end_another_is_made_by_the_same_authority(tmp_path: Path) -> None:
    now = time.time()
    first = leaf(ensure_dev_certificate(tmp_path, "tunnels.test", lambda: now))
    authority = (tmp_path / "ca.pem").read_bytes()

    assert leaf(ensure_dev_certificate(tmp_path, "tunnels.test", lambda: now + 334 * DAY)) == first
    again = ensure_dev_certificate(tmp_path, "tunnels.test", lambda: now + 336 * DAY)

    assert leaf(again).not_valid_after_utc > first.not_valid_after_utc
    assert again.ca.read_bytes() == authority


def test_an_authority_at_its_end_is_made_anew_and_outlived_by_no_certificate(tmp_path: Path) -> None:
    now = time.time()
    ensure_dev_certificate(tmp_path, "tunnels.test", lambda: now)
    old = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())

    late = leaf(ensure_dev_certificate(tmp_path, "tunnels.test", lambda: now + 3600 * DAY))
    assert late.issuer == old.subject and late.not_valid_after_utc == old.not_valid_after_utc
    later = leaf(ensure_dev_certificate(tmp_path, "tunnels.test", lambda: now + 3640 * DAY))

    assert later.issuer != old.subject


def test_another_host_gets_a_certificate_of_its_own_and_an_authority_that_may_sign_it(tmp_path: Path) -> None:
    ensure_dev_certificate(tmp_path, "tunnels.test")
    authority = (tmp_path / "ca.pem").read_bytes()

    local = ensure_dev_certificate(tmp_path, "localhost")
    assert local.ca.read_bytes() == authority
    other = ensure_dev_certificate(tmp_path, "other.test")

    assert other.ca.read_bytes() != authority
    verify("-CAfile", str(other.ca), "-verify_hostname", "a.other.test", str(other.certificate))


@pytest.mark.parametrize("broken", ["ca.pem", "ca-key.pem", "cert.pem", "key.pem"])
@pytest.mark.parametrize("how", ["garbage", "gone", "another's"])
def test_a_broken_file_is_replaced(tmp_path: Path, broken: str, how: str) -> None:
    folder = tmp_path / "tls"
    made = ensure_dev_certificate(folder, "tunnels.test")
    other = make_pair(tmp_path, "tunnels.test")
    match how:
        case "garbage":
            (folder / broken).write_bytes(b"\x00garbage")
        case "gone":
            (folder / broken).unlink()
        case _:
            (folder / broken).write_bytes((other.key if "key" in broken else other.cert).read_bytes())

    ensure_dev_certificate(folder, "tunnels.test")

    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(made.certificate, made.key)
    verify("-CAfile", str(made.ca), "-verify_hostname", "tunnels.test", str(made.certificate))


def test_servers_that_start_at_once_agree(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from tunnel_server.adapters.tls.devca import ensure_dev_certificate as ensure;"
        "made = ensure(pathlib.Path(sys.argv[1]), 'tunnels.test'); print(hash(made.ca.read_bytes()))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "tls")]
    environment = {"PYTHONHASHSEED": "0"}
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) for _ in range(4)]

    answers = {process.communicate()[0].splitlines()[-1] for process in processes}

    assert len(answers) == 1
    assert all(process.returncode == 0 for process in processes)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(InvalidCertificate, match="file/tls"):
        ensure_dev_certificate(tmp_path / "file" / "tls", "tunnels.test")


@pytest.mark.parametrize("host", ["mün.test", "a" * 70 + ".\ud800"])
def test_a_host_that_no_certificate_can_name_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(InvalidCertificate, match="host"):
        ensure_dev_certificate(tmp_path, host)


def test_it_says_how_to_trust_the_authority(tmp_path: Path) -> None:
    made = ensure_dev_certificate(tmp_path / "a folder", "tunnels.test")

    for word in ("update-ca-certificates", "add-trusted-cert", "Firefox", f"--cacert '{made.ca}'"):
        assert word in made.how_to_trust
