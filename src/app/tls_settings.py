"""The settings of the TLS port and its certificates."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tunnel_server.app.setting_fields import PORT, PORT_LIMITS, count, seconds, setting
from tunnel_server.domain.setting_types import (
    Network,
    boolean,
    host_names,
    lines,
    networks,
    plain_host_names,
    several,
    text,
)
from tunnel_server.domain.signable import unsignable

if TYPE_CHECKING:
    from tunnel_server.domain.naming import BaseUrl

CERT_FILE, KEY_FILE = "./tls/cert.pem", "./tls/key.pem"
CHALLENGES = ("http-01", "tls-alpn-01", "dns-01")
WELL_KNOWN_CAS = {
    "letsencrypt": "https://acme-v02.api.letsencrypt.org/directory",
    "letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
}
_HSTS = re.compile(r"max-age=[0-9]{1,10}(; includeSubDomains)?(; preload)?")


def _hsts(value: str) -> str:
    if value and _HSTS.fullmatch(value) is None:
        raise ValueError("is no value of Strict-Transport-Security")
    return value


def _directory(value: str) -> str:
    url = WELL_KNOWN_CAS.get(value, value)
    if url and (urlsplit(url).scheme != "https" or not urlsplit(url).hostname):
        raise ValueError("is neither letsencrypt, letsencrypt-staging nor an https URL")
    return url


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """The effective settings of the TLS port."""

    tls_port: int = setting(
        8443,
        PORT,
        "port for HTTPS and SSH, served if there is a certificate",
        "8443",
        env="TLS_PORT",
        limits=PORT_LIMITS,
    )
    ssh_hostnames: tuple[str, ...] = setting(
        (),
        plain_host_names,
        "server names (SNI) that mean SSH to the TLS port where a client negotiates nothing; none: the base URL's",
        "ssh.example.com",
        env="SSH_HOSTNAMES",
    )
    tls_cert_file: str = setting(
        CERT_FILE, text, "file of the TLS certificate and its chain, PEM", "/etc/tunnel/tls.crt", env="TLS_CERT_FILE"
    )
    tls_key_file: str = setting(
        KEY_FILE, text, "file of the TLS certificate's key, PEM", "/etc/tunnel/tls.key", env="TLS_KEY_FILE"
    )
    tls_cert: str = setting(
        "", lines, "the TLS certificate itself, PEM", "-----BEGIN CERTIFICATE-----…", env="TLS_CERT", secret=True
    )
    tls_key: str = setting(
        "", lines, "the TLS certificate's key itself, PEM", "-----BEGIN PRIVATE KEY-----…", env="TLS_KEY", secret=True
    )
    tls_cert_dir: str = setting(
        "", text, "folder of certificates, name.crt beside name.key, chosen by server name", "/etc/tunnel/certs"
    )
    dev_tls: bool = setting(False, boolean, "make a certificate for development, and a CA that signs it", "true")
    dev_tls_folder: str = setting("./tls/dev", text, "folder of the CA for development", "/var/lib/tunnel/dev")
    tls_key_log: str = setting("", text, "file to log TLS session keys to, for debugging only", "/tmp/keys.log")
    tls_handshake_timeout: float = seconds(10, "time a TLS handshake may take", 1, 600)
    max_handshakes: int = count(
        2048, "connections to the TLS port that have not shown what they are; on other ports, to send a PROXY header"
    )
    tls_redirect: bool = setting(
        True, boolean, "answer plain HTTP on the TLS port with a redirect to HTTPS; false: with an error", "false"
    )
    tls_proxy_protocol: tuple[Network, ...] = setting(
        (), networks, "networks of proxies that begin each connection to the TLS port with a PROXY header", "10.0.0.0/8"
    )
    http2: bool = setting(True, boolean, "offer HTTP/2 on the TLS port", "false")
    force_https: bool = setting(False, boolean, "redirect visitors who come without TLS to HTTPS", "true")
    hsts: str = setting(
        "",
        _hsts,
        "Strict-Transport-Security of answers over TLS; empty for none",
        "max-age=31536000; includeSubDomains",
    )

    acme: str = setting(
        "",
        _directory,
        "CA to get certificates of (RFC 8555): letsencrypt, letsencrypt-staging or the URL of its directory; "
        "setting it agrees to its terms",
        "letsencrypt",
    )
    acme_email: str = setting("", text, "address the CA may write to", "ops@example.com")
    acme_hosts: tuple[str, ...] = setting(
        (), host_names, "hosts to hold a certificate for, one each", "tunnels.example.com"
    )
    acme_on_demand: bool = setting(
        False, boolean, "get a certificate for a whole host name of a tunnel when a visitor asks for it", "true"
    )
    acme_labels: bool = setting(
        False,
        boolean,
        "on demand for labels under the base host; any key holder can then use up what the CA allows the domain",
        "true",
    )
    acme_folder: str = setting(
        "./acme", text, "folder of the ACME account and its certificates", "/var/lib/tunnel/acme"
    )
    acme_challenges: tuple[str, ...] = setting(
        CHALLENGES, several(*CHALLENGES), "ways to prove a host to the CA, best first", "tls-alpn-01"
    )
    acme_ca_file: str = setting("", text, "certificates to trust the CA's own server by, PEM", "/etc/tunnel/ca.pem")
    acme_private_ca: bool = setting(
        False,
        boolean,
        "the CA signs names of a private network, such as those in .internal",
        "true",
    )
    acme_orders_per_hour: int = count(40, "certificates ordered on demand in an hour, all hosts together", 1, 10_000)
    acme_orders_per_day: int = count(300, "certificates ordered on demand in a day, all hosts together", 1, 100_000)
    acme_orders_per_domain: int = count(7, "certificates ordered on demand in a day for one domain", 1, 100_000)
    acme_eab_kid: str = setting("", text, "key id of an external account at the CA", "kid-1")
    acme_eab_key: str = setting("", text, "its key, base64url", "zWNDZM6e…", secret=True)

    def has_certificate(self) -> bool:
        """Tell whether there is a certificate, or a way to one, and so a TLS port to serve."""
        return bool(
            self.tls_cert or self.tls_cert_dir or self.dev_tls or self.acme or self.certificate_files() is not None
        )

    def certificate_files(self) -> tuple[Path, Path] | None:
        """Return the certificate's file and its key's; those that nobody set count only if they are there."""
        cert, key = Path(self.tls_cert_file), Path(self.tls_key_file)
        if (self.tls_cert_file, self.tls_key_file) == (CERT_FILE, KEY_FILE) and not (
            _there(cert.exists) or _there(key.exists)
        ):
            return None
        return cert, key


def _there(look: Callable[[], bool]) -> bool:
    """Return what ``look`` does, and true where we may not look: who reads it later says why not."""
    try:
        return look()
    except PermissionError:
        return True


def contradictions(settings: TlsSettings, base: BaseUrl, *, trusts_proxies: bool) -> list[str]:
    """Return a line for each thing that does not go together; ``trusts_proxies`` if any proxy's word on TLS counts."""
    return [*_of_certificates(settings), *_of_redirects(settings, base, trusts_proxies), *_of_acme(settings)]


def _of_certificates(settings: TlsSettings) -> Iterator[str]:
    files = settings.certificate_files()
    if settings.dev_tls and (settings.tls_cert or files is not None):
        yield "dev_tls: there is a certificate already; leave out one of them"
    if bool(settings.tls_cert) != bool(settings.tls_key) and files is None:
        yield "tls_cert, tls_key: one is set without the other"
    for name, text_of, path in zip(("cert", "key"), (settings.tls_cert, settings.tls_key), files or (), strict=False):
        if not text_of and not _there(path.exists):
            yield f"tls_{name}_file: there is no file {str(path)!r}"
    if settings.tls_cert_dir and not _there(Path(settings.tls_cert_dir).is_dir):
        yield f"tls_cert_dir: there is no folder {settings.tls_cert_dir!r}"
    if not settings.has_certificate():
        for name in ("hsts", "tls_key_log"):
            if getattr(settings, name):
                yield f"{name}: there is no certificate, so no TLS for it; for example: dev_tls = true"


def _of_redirects(settings: TlsSettings, base: BaseUrl, trusts_proxies: bool) -> Iterator[str]:
    if settings.force_https and not settings.has_certificate():
        if base.scheme != "https":
            yield "force_https: there is no certificate, and base_url is not https; for example: dev_tls = true"
        elif not trusts_proxies:
            yield "force_https: there is no certificate; name the proxies that have one in trusted_proxies"


def _of_acme(settings: TlsSettings) -> Iterator[str]:
    if not settings.acme:
        if settings.acme_hosts or settings.acme_on_demand:
            yield "acme: of which CA? for example: letsencrypt"
        return
    if not settings.acme_hosts and not settings.acme_on_demand:
        yield "acme: for which hosts? set acme_hosts, or acme_on_demand = true"
    if settings.acme_labels and not settings.acme_on_demand:
        yield "acme_labels: certificates for labels are got on demand only: set acme_on_demand, too"
    for host in settings.acme_hosts:
        if reason := unsignable(host, settings.acme_private_ca, "dns-01" in settings.acme_challenges):
            yield f"acme_hosts: no CA would sign a certificate for {host!r}: {reason}"
    if settings.acme_ca_file and not _there(Path(settings.acme_ca_file).is_file):
        yield f"acme_ca_file: there is no file {settings.acme_ca_file!r}"
    if bool(settings.acme_eab_kid) != bool(settings.acme_eab_key):
        yield "acme_eab_kid, acme_eab_key: one is set without the other"
