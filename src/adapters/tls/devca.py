"""A certificate for development, and a local authority (CA) that signs it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tunnel_server.domain.errors import InvalidCertificate

CA_LIFE = timedelta(days=3650)
LIFE = timedelta(days=365)  # Apple takes at most 825 days of any CA; Mozilla's intermediate profile names 366
RENEW_BEFORE = timedelta(days=30)
SKEW = timedelta(hours=1)  # by which a client's clock may be slow

_LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
_Key = ec.EllipticCurvePrivateKey
_Signed = tuple[x509.Certificate, _Key]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DevTls:
    """The files, and a text for people that says how to trust the authority."""

    ca: Path
    certificate: Path
    key: Path
    how_to_trust: str


def ensure_dev_certificate(folder: Path, hostname: str, clock: Callable[[], float] = time.time) -> DevTls:
    """Return a certificate for ``hostname``, the names one label below it, and this machine; made where it is needed.

    It lasts 365 days and is made anew 30 days before, or when ``hostname`` is another. The authority lasts 10 years and
    is kept. Should its key be stolen, it vouches for nothing but these names: so it is made anew, too, for a hostname
    that it may not sign. Several servers may start in the same folder at once.

    Raises:
        InvalidCertificate: the folder cannot be written, or ``hostname`` is none.
    """
    paths = DevTls(folder / "ca.pem", folder / "cert.pem", folder / "key.pem", _how_to_trust(folder / "ca.pem"))
    now = datetime.fromtimestamp(clock(), UTC)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(folder):
            names = _names(hostname.lower())
            authority = _authority(paths.ca, folder / "ca-key.pem", names, now)
            if not _serves(paths, authority[0], names, now):
                _issue(paths, authority, names, now)
    except OSError as error:
        raise InvalidCertificate(f"cannot keep a certificate for development in {folder}: {error.strerror}") from None
    except (ValueError, UnicodeError):
        raise InvalidCertificate(f"no certificate for development can be made for the host {hostname!r}") from None
    return paths


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process is at work in ``folder``, and keep others out."""
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _names(hostname: str) -> list[x509.GeneralName]:
    """Return what the certificate is for, each once, ``hostname`` first."""
    names: dict[x509.GeneralName, None] = {}
    try:
        names[x509.IPAddress(ip_address(hostname.strip("[]")))] = None
    except ValueError:
        for host in (hostname, "localhost"):
            names[x509.DNSName(host)] = names[x509.DNSName(f"*.{host}")] = None
    for name in ("localhost", "*.localhost"):
        names[x509.DNSName(name)] = None
    for address in ("127.0.0.1", "::1"):
        names[x509.IPAddress(ip_address(address))] = None
    return list(names)


def _permitted(names: Iterable[x509.GeneralName]) -> list[x509.GeneralName]:
    """Return what the authority may sign for ``names``: a DNS name stands for all below it (RFC 5280 §4.2.1.10)."""
    permitted: dict[x509.GeneralName, None] = {x509.IPAddress(network): None for network in _LOOPBACK}
    for name in names:
        if isinstance(name, x509.DNSName):
            permitted[x509.DNSName(name.value.removeprefix("*."))] = None
        elif isinstance(name, x509.IPAddress) and not any(name.value in network for network in _LOOPBACK):
            permitted[x509.IPAddress(ip_network(str(name.value)))] = None
    return list(permitted)


def _authority(path: Path, key_path: Path, names: list[x509.GeneralName], now: datetime) -> _Signed:
    kept = _load(path, key_path)
    if kept is not None and now + RENEW_BEFORE < kept[0].not_valid_after_utc and _may_sign(kept[0], names):
        return kept
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named(f"tunnel-server development CA {os.urandom(4).hex()}")
    permitted = x509.NameConstraints(_permitted(names), None)
    usage = _usage(key_cert_sign=True, crl_sign=True)
    certificate = (
        _builder(name, key, now, now + CA_LIFE)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(permitted, critical=True)
        .sign(key, SHA256())
    )
    _keep(path, key_path, certificate, key)
    log.info("dev-ca.made", file=str(path), expires=certificate.not_valid_after_utc.isoformat())
    return certificate, key


def _may_sign(authority: x509.Certificate, names: list[x509.GeneralName]) -> bool:
    try:
        constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False
    return set(_permitted(names)) <= set(constraints.permitted_subtrees or ())


def _serves(paths: DevTls, authority: x509.Certificate, names: list[x509.GeneralName], now: datetime) -> bool:
    kept = _load(paths.certificate, paths.key)
    if kept is None or now + RENEW_BEFORE >= kept[0].not_valid_after_utc:
        return False
    try:
        kept[0].verify_directly_issued_by(authority)
        alternatives = kept[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # whatever is wrong with it, another is made
        return False
    return list(alternatives) == names


def issue_for(folder: Path, host: str, clock: Callable[[], float] = time.time) -> tuple[bytes, bytes]:
    """Return a certificate for ``host`` alone, and its key, both PEM and kept nowhere, of the authority in ``folder``.

    Raises:
        InvalidCertificate: there is no authority in the folder.
    """
    authority = _load(folder / "ca.pem", folder / "ca-key.pem")
    if authority is None:
        raise InvalidCertificate(f"{folder} holds no authority for development any more")
    certificate, key = _sign(authority, [x509.DNSName(host)], datetime.fromtimestamp(clock(), UTC))
    return certificate.public_bytes(serialization.Encoding.PEM), _pem(key)


def _issue(paths: DevTls, authority: _Signed, names: list[x509.GeneralName], now: datetime) -> None:
    certificate, key = _sign(authority, names, now)
    _keep(paths.certificate, paths.key, certificate, key)
    log.info("dev-certificate.made", file=str(paths.certificate), expires=certificate.not_valid_after_utc.isoformat())


def _sign(authority: _Signed, names: list[x509.GeneralName], now: datetime) -> _Signed:
    ca, ca_key = authority
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        _builder(_named("tunnel-server development"), key, now, min(now + LIFE, ca.not_valid_after_utc))
        .issuer_name(ca.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(ca_key, SHA256())
    )
    return certificate, key


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(subject: x509.Name, key: _Key, now: datetime, end: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _load(path: Path, key_path: Path) -> _Signed | None:
    """Return a certificate and its key, if both are there, whole, and belong together."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
    except (FileNotFoundError, ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if not isinstance(key, _Key) or key.public_key() != certificate.public_key():
        return None
    return certificate, key


def _keep(path: Path, key_path: Path, certificate: x509.Certificate, key: _Key) -> None:
    """Write both, each at once; a server that starts between the two finds that they do not match."""
    secret = _pem(key)
    public = certificate.public_bytes(serialization.Encoding.PEM)
    for file, data, mode in ((key_path, secret, 0o600), (path, public, 0o644)):
        fresh = file.with_name(f".{file.name}.new")
        fresh.unlink(missing_ok=True)  # of a server that died here
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(file)


def _pem(key: _Key) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _how_to_trust(ca: Path) -> str:
    file = shlex.quote(str(ca.absolute()))
    return f"""\
Browsers warn of this certificate until they trust the CA that signed it, {ca.absolute()}:
  Debian, Ubuntu   sudo cp {file} /usr/local/share/ca-certificates/tunnel-server-dev.crt && sudo update-ca-certificates
  Fedora, Arch     sudo trust anchor {file}
  macOS            sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {file}
  Chrome on Linux  certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n tunnel-server-dev -i {file}
  Firefox          Settings, Privacy & Security, View Certificates, Authorities, Import
  curl             curl --cacert {file} ...
It can vouch for this server's names only. Its key, ca-key.pem beside it, is for nobody else."""
