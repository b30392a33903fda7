"""`tunnel-server doctor` on a host of its own: real names, real time, real certificates, real servers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from certs import make_pair
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID
from private_host import HERE, NOWHERE, OTHER, PUBLIC, PrivateHost
from rig import need

ASKED = ("doctor", "--time-server", "time.test", "--timeout", "2s")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateHost]:
    with PrivateHost(tmp_path_factory.mktemp("host")) as own:
        yield own


@pytest.fixture(scope="module")
def settings(host: PrivateHost) -> dict[str, str]:
    """What a good server is set to, but for its certificate."""
    return {
        "BASE_URL": "https://tunnels.test:8443",
        "SSL_CERT_FILE": str(host.folder / "ca.pem"),  # the doctor's own: whom all trust
        "COOKIE_SECRETS": "0123456789abcdef0123456789abcdef",
        "PORT": "80",
        "TUNNEL_SERVER_LISTEN_HOST": HERE,
        "TUNNEL_SERVER_METRICS_HOST": "127.0.0.1",
        "SSH_HOST_KEY_PATH": str(host.folder / "keys" / "host_key"),
    }


@pytest.fixture(scope="module")
def served(host: PrivateHost, settings: dict[str, str]) -> Iterator[dict[str, str]]:
    """The settings of a good server that runs; its other certificates are for hosts of other tests."""
    pairs = host.folder / "pairs"
    pairs.mkdir()
    for name in ("ca.pem", "ca-key.pem"):
        (pairs / name).write_bytes((host.folder / name).read_bytes())
    make_pair(pairs, "tunnels.test", "*.tunnels.test", stem="good", days=60)
    make_pair(pairs, "over.test", "*.over.test", stem="over", days=-0.5, since=-2)
    make_pair(pairs, "soon.test", "*.soon.test", stem="soon", days=10)
    make_pair(pairs, "single.test", stem="single")
    below = intermediate_of(host.folder)
    for stem in ("incomplete", "complete"):
        pair = make_pair(below, f"{stem}.test", f"*.{stem}.test", stem=stem)
        chain = pair.cert.read_bytes() + (pair.ca.read_bytes() if stem == "complete" else b"")
        (pairs / f"{stem}.crt").write_bytes(chain)
        (pairs / f"{stem}.key").write_bytes(pair.key.read_bytes())
    whole = settings | {"TUNNEL_SERVER_TLS_CERT_DIR": str(pairs)}
    with host.server(**whole):
        yield whole


def intermediate_of(folder: Path) -> Path:
    """Return a folder whose CA is signed by that of ``folder``."""
    root = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    root_key = load_pem_private_key((folder / "ca-key.pem").read_bytes(), None)
    assert isinstance(root_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    signed = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "intermediate")]))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(2)
        .not_valid_before(root.not_valid_before_utc)
        .not_valid_after(root.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    below = folder / "intermediate"
    below.mkdir()
    (below / "ca.pem").write_bytes(signed.public_bytes(Encoding.PEM))
    (below / "ca-key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return below


def on_ports(number: int) -> dict[str, str]:
    """Return settings for ports that no other test uses."""
    ports = {"PORT": f"30{number}", "SSH_PORT": f"22{number}", "TLS_PORT": f"84{number}", "METRICS_PORT": f"88{number}"}
    return ports | {"BASE_URL": f"https://tunnels.test:84{number}"}


# the whole command


def test_people_get_a_line_for_each_check_and_a_summary(host: PrivateHost, served: dict[str, str]) -> None:
    done = host.command(*ASKED, **(served | {"COOKIE_SECRETS": ""}))

    lines = done.stdout.splitlines()
    assert f"ok      dns wildcard       *.tunnels.test -> {HERE}" in lines
    [at] = [number for number, line in enumerate(lines) if line.startswith("warning sessions")]
    assert lines[at + 1].startswith("        fix: set COOKIE_SECRETS")
    assert lines[-1] == "16 ok, 1 warning, 1 skipped"
    assert (done.returncode, done.stderr) == (0, "")


def test_a_setting_that_is_wrong_is_said_as_at_the_start(host: PrivateHost) -> None:
    done = host.command("doctor", "--timeout", "1s", PORT="x")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("tunnel-server: port: 'x'")


IMPOSTOR = r"""
import socket, sys, threading
def give(server, data, times):
    while True:
        peer = server.accept()[0]
        kept.append(peer)
        try:
            for _ in range(times): peer.sendall(data)
        except OSError: pass
kept = []
silent, endless, ssh = (socket.create_server((sys.argv[1], port)) for port in map(int, sys.argv[2:]))
for each in ((silent, b"", 0), (endless, b"x" * 65536, 10**6), (ssh, b"SSH-2.0-\x1b[31mOpenSSH\r\n", 1)):
    threading.Thread(target=give, args=each).start()
print("ready", flush=True)
"""
REMEDIES = {
    "plugins": "mend or remove that plugin",
    "host key": "ssh-keygen -t ed25519",
    "clock": "timedatectl set-ntp true",
    "port http": "sport = :3010",
    "port ssh": "set SSH_PORT",
    "port tls": "CAP_NET_BIND_SERVICE",
    "port metrics": "set METRICS_PORT",
    "dns base": "make an A record",
    "dns wildcard": "CNAME tunnels.test.",
    "certificate": "TLS_CERT_FILE and TLS_KEY_FILE",
}


def test_when_everything_is_wrong_each_thing_is_told_with_its_remedy(
    host: PrivateHost, settings: dict[str, str]
) -> None:
    plugins, key = host.folder / "plugins", host.folder / "bad_key"
    plugins.mkdir()
    (plugins / "broken.py").write_text("print('loading')\nraise RuntimeError('no such database')\n")
    key.write_text("no key\n")
    one, another = (make_pair(host.folder, f"{name}.test", stem=name) for name in ("one", "another"))
    wrong = settings | on_ports(10) | {
        "TLS_PORT": "443", "TLS_CERT_FILE": str(one.cert), "TLS_KEY_FILE": str(another.key),
        "SSH_HOST_KEY_PATH": str(key), "TUNNEL_SERVER_PLUGINS_DIR": str(plugins), "TUNNEL_SERVER_BROKEN_THING": "1",
        "TUNNEL_SERVER_METRICS_HOST": HERE,
    }  # fmt: skip
    names = {"tunnels.test": None, "*.tunnels.test": None}
    unprivileged = (need("setpriv"), "--bounding-set", "-net_bind_service", "--")

    with host.running(sys.executable, "-c", IMPOSTOR, HERE, "3010", "8810", "2210") as impostor:
        assert impostor.stdout is not None and impostor.stdout.readline() == "ready\n"
        with host.says(names=names, offset=-1e6):
            done = host.command(*ASKED[:-1], "500ms", before=unprivileged, **wrong)

    lines = done.stdout.splitlines()
    failures = {line[8:26].strip(): (line, fix) for line, fix in pairwise(lines) if line.startswith("failed")}
    assert {check: fix for check, fix in REMEDIES.items() if fix not in failures.get(check, ("", ""))[1]} == {}
    assert "no such database" in failures["plugins"][0]
    assert "\\x1b[31mOpenSSH" in failures["port ssh"][0]
    assert "\x1b" not in done.stdout
    assert "loading" not in done.stdout
    assert done.returncode == 1


# each thing


def test_of_a_server_in_good_health_nothing_is_said(host: PrivateHost, served: dict[str, str]) -> None:
    status, found = host.doctor(**served)

    assert {check: each for check, each in found.items() if each["verdict"] != "ok" and check != "acme"} == {}
    assert status == 0
    assert "time.test" in found["clock"]["found"]


BAD_NAMES = {
    "no base": ({"tunnels.test": None, "*.tunnels.test": None}, "dns base", "failed", "make an A record"),
    "no wildcard": ({"*.tunnels.test": None}, "dns wildcard", "failed", "`*.tunnels.test CNAME tunnels.test.`"),
    "wildcard elsewhere": ({"*.tunnels.test": {"A": [OTHER]}}, "dns wildcard", "warning", "the same addresses"),
    "shadowed": ({"auth.tunnels.test": {"TXT": ["hello"]}}, "dns auth", "failed", "RFC 4592"),
    "own record": ({"api.tunnels.test": {"A": [OTHER]}}, "dns api", "warning", "remove the record"),
    "loopback": ({"tunnels.test": {"A": ["127.0.0.1"]}}, "dns base", "warning", "dig +short tunnels.test"),
    "nowhere": ({"tunnels.test": {"A": [NOWHERE]}}, "reach base", "failed", "NAT"),
    "stale AAAA": ({"tunnels.test": {"A": [HERE], "AAAA": ["2001:db8::7"]}}, "reach base", "warning", "its record"),
}


@pytest.mark.parametrize("case", BAD_NAMES)
def test_names_that_lead_astray_are_told_of(host: PrivateHost, served: dict[str, str], case: str) -> None:
    names, check, verdict, remedy = BAD_NAMES[case]

    with host.says(names=names):
        _, found = host.doctor(**served)

    assert found[check]["verdict"] == verdict
    assert remedy in found[check]["fix"]


def test_a_resolver_that_is_silent_stops_nothing_else(host: PrivateHost, served: dict[str, str]) -> None:
    with host.says(silent=True):
        status, found = host.doctor("300ms", "192.0.2.7:123", **served)

    assert status == 1
    assert found["dns base"]["verdict"] == found["dns wildcard"]["verdict"] == "failed"
    assert "/etc/resolv.conf" in found["dns base"]["fix"]
    assert found["port http"]["verdict"] == found["certificate chain"]["verdict"] == "ok"
    assert "tunnels.test has no address" in found["reach base"]["found"]


@pytest.mark.parametrize(("offset", "verdict"), [(0, "ok"), (20, "warning"), (-20, "warning"), (7200, "failed")])
def test_the_clock_is_compared_with_a_time_server(
    host: PrivateHost, served: dict[str, str], offset: int, verdict: str
) -> None:
    with host.says(offset=offset):
        _, found = host.doctor(**served)

    assert found["clock"]["verdict"] == verdict
    assert ("timedatectl" in found["clock"]["fix"]) == (verdict != "ok")


def test_an_answer_to_somebody_else_is_not_the_time(host: PrivateHost, served: dict[str, str]) -> None:
    with host.says(offset=7200, liar=True):
        _, found = host.doctor("300ms", **served)

    assert found["clock"]["verdict"] != "failed"
    assert "no answer within 0.3 s" in found["clock"]["found"] or "it is kept" in found["clock"]["found"]


def test_a_port_that_is_forwarded_to_nobody_is_told_by_number(host: PrivateHost, served: dict[str, str]) -> None:
    status, found = host.doctor(**(served | {"BASE_URL": "https://tunnels.test"}))

    assert status == 1
    for check in ("reach base", "reach wildcard"):
        assert "connection refused" in found[check]["found"]
        assert "port 443 of tunnels.test and *.tunnels.test has to lead to TLS_PORT (8443)" in found[check]["fix"]


def test_another_server_at_the_base_host_is_found_out(host: PrivateHost, served: dict[str, str]) -> None:
    theirs = {
        "TUNNEL_SERVER_LISTEN_HOST": OTHER,
        "METRICS_PORT": "8811",
        "SSH_HOST_KEY_PATH": str(host.folder / "theirs"),
    }

    with host.server(**(served | theirs)), host.says(names={"tunnels.test": {"A": [OTHER]}}):
        status, found = host.doctor(**served)
        _, mistaken = host.doctor(**(served | {"BASE_URL": "http://ca.test:8811"}))

    assert status == 1
    assert "another tunnel server" in found["reach base"]["found"]
    assert "no other" in found["reach base"]["fix"]
    assert "another host key" in found["reach ssh"]["found"]
    assert "not this server: status 200" in mistaken["reach base"]["found"]
    assert "*.ca.test has no address" in mistaken["reach wildcard"]["found"]


def test_an_ssh_server_without_a_host_key_is_told_of(host: PrivateHost, served: dict[str, str]) -> None:
    with host.running(sys.executable, "-c", IMPOSTOR, OTHER, "3016", "8816", "2222") as impostor:
        assert impostor.stdout is not None and impostor.stdout.readline() == "ready\n"
        with host.says(names={"tunnels.test": {"A": [OTHER]}}):
            _, found = host.doctor("500ms", **served)

    assert found["reach ssh"]["found"].endswith(": no host key is shown (SSH-2.0-\x1b[31mOpenSSH)")
    assert found["reach ssh"]["verdict"] == "failed"


def test_before_the_start_ports_are_free_and_nobody_is_to_be_reached(host: PrivateHost, served: dict[str, str]) -> None:
    fresh = on_ports(12) | {"SSH_HOST_KEY_PATH": str(host.folder / "fresh" / "key")}

    status, found = host.doctor(**(served | fresh))

    assert status == 0
    assert all("is free" in found[f"port {name}"]["found"] for name in ("http", "ssh", "tls", "metrics"))
    assert {found[f"reach {name}"]["verdict"] for name in ("base", "wildcard", "ssh")} == {"skipped"}
    assert found["host key"]["found"].endswith("will be made")
    assert not (host.folder / "fresh").exists()


def test_a_server_that_runs_on_other_ports_than_its_settings_say_is_told_of(
    host: PrivateHost, served: dict[str, str]
) -> None:
    status, found = host.doctor(**(served | {"PORT": "3018", "TLS_PORT": "8418"}))

    assert status == 0
    for check, setting in (("port http", "PORT"), ("port tls", "TLS_PORT")):
        assert found[check]["verdict"] == "warning"
        assert "the server runs, but not here" in found[check]["found"]
        assert f"where systemd passes it sockets, set {setting} to" in found[check]["fix"]
    assert found["port ssh"]["verdict"] == found["port metrics"]["verdict"] == "ok"
    assert found["reach base"]["found"].startswith("the server does not answer on PORT")


def test_a_host_key_that_cannot_be_made_fails(host: PrivateHost, served: dict[str, str]) -> None:
    sealed = on_ports(12) | {"SSH_HOST_KEY_PATH": str(host.folder / "sealed" / "key")}

    _, found = host.doctor(**(served | sealed))

    assert found["host key"]["found"].endswith("and none can be made")
    assert "the server's user may write to" in found["host key"]["fix"]


def test_a_host_key_other_than_the_one_that_is_shown_fails(host: PrivateHost, served: dict[str, str]) -> None:
    _, found = host.doctor(**(served | {"SSH_HOST_KEY_PATH": str(host.folder / "gone" / "key")}))

    assert found["host key"]["verdict"] == "failed"
    assert "the next start makes another key" in found["host key"]["fix"]


def test_a_metrics_port_for_all_the_world_is_warned_of(host: PrivateHost, served: dict[str, str]) -> None:
    with host.says(names={"tunnels.test": {"A": [PUBLIC]}, "*.tunnels.test": {"A": [PUBLIC]}}):
        _, found = host.doctor(**(served | {"TUNNEL_SERVER_METRICS_HOST": ""}))

    assert found["port metrics"]["verdict"] == "warning"
    assert "TUNNEL_SERVER_METRICS_HOST=127.0.0.1" in found["port metrics"]["fix"]


def test_behind_balancers_that_say_who_visits_the_doctor_says_it_too(host: PrivateHost, served: dict[str, str]) -> None:
    proxies = {f"TUNNEL_SERVER_{name}_PROXY_PROTOCOL": "127.0.0.0/8" for name in ("HTTP", "SSH", "TLS")}
    behind = served | on_ports(13) | proxies | {"TUNNEL_SERVER_LISTEN_HOST": ""}

    with host.server(**behind):
        _, found = host.doctor(**behind)

    checks = ("port http", "port ssh", "port tls", "certificate chain", "reach base")
    assert [found[check]["verdict"] for check in checks] == ["ok"] * 5


# certificates


def of_base(host: PrivateHost, served: dict[str, str], base: str) -> dict[str, dict[str, str]]:
    """Return what is found if ``base`` is the base host."""
    with host.says(names={base: {"A": [HERE]}, f"*.{base}": {"A": [HERE]}}):
        return host.doctor(**(served | {"BASE_URL": f"https://{base}:8443"}))[1]


def test_a_certificate_of_a_ca_that_nobody_knows_fails(host: PrivateHost, served: dict[str, str]) -> None:
    _, found = host.doctor(**(served | {"SSL_CERT_FILE": ""}))

    assert found["certificate"]["verdict"] == "ok"
    for check in ("certificate chain", "reach base", "reach wildcard"):
        assert found[check]["verdict"] == "failed"
        assert "have clients trust it" in found[check]["fix"]


def test_an_expired_certificate_fails(host: PrivateHost, served: dict[str, str]) -> None:
    found = of_base(host, served, "over.test")

    assert "expired on" in found["certificate"]["found"]
    assert found["certificate"]["fix"].startswith("renew it")
    assert found["certificate chain"]["fix"].startswith("renew the certificate")


def test_a_certificate_that_ends_soon_is_warned_of(host: PrivateHost, served: dict[str, str]) -> None:
    found = of_base(host, served, "soon.test")

    assert (found["certificate"]["verdict"], found["certificate chain"]["verdict"]) == ("warning", "ok")


def test_a_certificate_without_the_wildcard_fails(host: PrivateHost, served: dict[str, str]) -> None:
    found = of_base(host, served, "single.test")

    assert found["certificate"]["found"].startswith("none covers *.single.test")
    assert "both single.test and *.single.test" in found["certificate"]["fix"]
    assert found["certificate chain"]["verdict"] == "ok"
    assert "ismatch" in found["reach wildcard"]["found"]


def test_a_chain_without_its_intermediate_fails(host: PrivateHost, served: dict[str, str]) -> None:
    incomplete, complete = (of_base(host, served, f"{name}.test") for name in ("incomplete", "complete"))

    assert incomplete["certificate chain"]["verdict"] == "failed"
    assert "fullchain.pem" in incomplete["certificate chain"]["fix"]
    assert complete["certificate chain"]["verdict"] == "ok"


def test_a_certificate_for_development_is_told_from_a_real_one(host: PrivateHost, settings: dict[str, str]) -> None:
    development = settings | on_ports(14) | {"TUNNEL_SERVER_DEV_TLS": "true"}

    with host.server(**development):
        status, found = host.doctor(**development)

    assert status == 0
    assert found["certificate"]["verdict"] == "warning"
    assert found["certificate chain"]["verdict"] == "skipped"
    assert found["reach base"]["verdict"] == found["reach wildcard"]["verdict"] == "ok"


# a CA


@pytest.fixture
def with_ca(host: PrivateHost, served: dict[str, str]) -> dict[str, str]:
    return served | {
        "TUNNEL_SERVER_ACME": "https://ca.test:14000/dir",
        "TUNNEL_SERVER_ACME_CA_FILE": str(host.folder / "ca.pem"),
        "TUNNEL_SERVER_ACME_HOSTS": "tunnels.test",
        "TUNNEL_SERVER_ACME_FOLDER": str(host.folder / "acme"),  # the working folder is not below the mount
        "TUNNEL_SERVER_ACME_PRIVATE_CA": "true",
    }


def test_a_ca_has_to_get_to_port_80_or_443(host: PrivateHost, with_ca: dict[str, str]) -> None:
    _, found = host.doctor(**with_ca)
    _, in_memory = host.doctor(**(with_ca | {"TUNNEL_SERVER_ACME_FOLDER": str(host.folder / "memory")}))
    _, by_443 = host.doctor(**with_ca, TUNNEL_SERVER_ACME_CHALLENGES="tls-alpn-01")
    _, by_dns = host.doctor(**(with_ca | {"TUNNEL_SERVER_ACME_HOSTS": "tunnels.test, *.tunnels.test"}))

    assert found["acme"]["found"] == "https://ca.test:14000/dir answers; proof by http-01"
    assert in_memory["acme"]["verdict"] == "warning"
    assert "named volume" in in_memory["acme"]["fix"]
    assert by_443["acme"]["verdict"] == "failed"
    assert "port 443 to TLS_PORT" in by_443["acme"]["fix"]
    assert by_dns["acme"]["verdict"] == "failed"
    assert "dns_challenge" in by_dns["acme"]["fix"]


TUNNEL = r"""
import asyncio, sys, asyncssh
async def app(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nTunnel-Server-Instance: 0123\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    writer.close()
async def main():
    server = await asyncio.start_server(app, "127.0.0.1", 0)
    await asyncio.start_server(app, "192.0.2.8", 80)
    key = asyncssh.generate_private_key("ssh-ed25519")
    options = {"client_keys": [key], "known_hosts": None, "config": None, "agent_path": None, "username": "x"}
    async with asyncssh.connect("192.0.2.7", 2222, **options) as client:
        await client.forward_remote_path_to_port("/web", "127.0.0.1", server.sockets[0].getsockname()[1])
        urls = (await client.run("tunnel-url web")).stdout
        print(urls.partition("//")[2].partition("/")[0].partition(":")[0], flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def test_a_ca_gets_to_the_host_of_a_tunnel_whatever_its_app_answers(host: PrivateHost, with_ca: dict[str, str]) -> None:
    with host.running(sys.executable, "-c", TUNNEL) as tunnel:
        assert tunnel.stdout is not None
        online = tunnel.stdout.readline().strip()
        assert online.endswith(".tunnels.test"), tunnel.stderr and tunnel.stderr.read()
        hosts = with_ca | {"TUNNEL_SERVER_ACME_HOSTS": f"tunnels.test, {online}, nobody.tunnels.test"}
        _, here = host.doctor(**hosts)
        with host.says(names={online: {"A": [OTHER]}}):
            _, elsewhere = host.doctor(**hosts)

    assert here["acme"]["found"] == "https://ca.test:14000/dir answers; proof by http-01"
    assert f"does not get here by {online} (http-01: another answers: status 200;" in elsewhere["acme"]["found"]


def test_the_tls_port_is_found_by_a_ca_before_there_is_a_certificate(
    host: PrivateHost, with_ca: dict[str, str]
) -> None:
    first = with_ca | on_ports(17) | {
        "TLS_PORT": "443", "BASE_URL": "https://tunnels.test", "TUNNEL_SERVER_TLS_CERT_DIR": "",
        "TUNNEL_SERVER_ACME_CHALLENGES": "tls-alpn-01",
    }  # fmt: skip

    with host.server(**first):
        _, found = host.doctor(**first)

    assert found["certificate chain"]["verdict"] == "failed"
    assert found["acme"]["found"] == "https://ca.test:14000/dir answers; proof by tls-alpn-01"


def test_labels_that_get_certificates_on_demand_need_none_before(host: PrivateHost, with_ca: dict[str, str]) -> None:
    single = with_ca | on_ports(15)
    single["BASE_URL"] = f"https://single.test:{single['TLS_PORT']}"
    on_demand = {"TUNNEL_SERVER_ACME_ON_DEMAND": "true", "TUNNEL_SERVER_ACME_LABELS": "true"}
    names = {"single.test": {"A": [HERE]}, "*.single.test": {"A": [HERE]}}

    with host.says(names=names), host.server(**single):
        _, by_wildcard = host.doctor(**single)
        _, by_label = host.doctor(**single, **on_demand)

    assert (by_wildcard["certificate"]["verdict"], by_wildcard["reach wildcard"]["verdict"]) == ("failed", "failed")
    assert (by_label["certificate"]["verdict"], by_label["reach wildcard"]["verdict"]) == ("ok", "ok")


def test_the_ca_tells_the_time_where_no_time_server_does(host: PrivateHost, with_ca: dict[str, str]) -> None:
    with host.says(offset=7200, timeless=True):
        _, found = host.doctor("500ms", **with_ca)

    assert found["clock"]["verdict"] == "failed"
    assert "behind https://ca.test:14000/dir" in found["clock"]["found"]


def test_a_ca_that_is_no_ca_fails(host: PrivateHost, with_ca: dict[str, str]) -> None:
    _, found = host.doctor(**(with_ca | {"TUNNEL_SERVER_ACME": "https://ca.test:14000/other"}))

    assert "no directory of an ACME server" in found["acme"]["found"]
    assert "reach the CA by HTTPS" in found["acme"]["fix"]
