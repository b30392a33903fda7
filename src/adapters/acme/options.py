"""What the ACME side is told, and what it needs of others."""

from __future__ import annotations

import base64
import binascii
import re
from abc import abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from tunnel_server.domain.errors import InvalidSetting
from tunnel_server.domain.issuance import IssuanceLimits
from tunnel_server.domain.signable import unsignable

HTTP, ALPN, DNS = "http-01", "tls-alpn-01", "dns-01"
CHALLENGES = (HTTP, ALPN, DNS)

_EMAIL = re.compile(r"[^@\s,?]{1,64}@[^@\s,?]{1,253}")  # one address, and no header fields (RFC 8555 §7.3)


class CertificateSink(Protocol):
    """Takes certificates to serve; a source names where one comes from, and holds at most one."""

    @abstractmethod
    def install(self, source: str, chain: bytes, key: bytes) -> None:
        """Serve a certificate from now on, both as PEM, in place of the one of this source. May raise."""

    @abstractmethod
    def remove(self, source: str) -> None:
        """Serve what came from ``source`` no more. Safe to repeat."""


@dataclass(frozen=True, slots=True)
class AcmeOptions:
    """How to get certificates. Times are seconds. Setting it up agrees to the CA's terms of service.

    ``hosts`` get one certificate each, whatever visitors ask for; a wildcard among them needs ``dns-01``.
    ``on_demand`` orders for other hosts that visitors ask for and that exist, but for none below ``on_demand_base``.
    ``challenges`` are tried in this order, one at each try. ``ca_file`` holds the certificates, as PEM, that the
    ACME server is verified with instead of those of public CAs. ``private_ca`` tells that the CA signs names that
    mean something in a private network only. ``eab_key`` is base64url, as the CA shows it.

    Raises:
        InvalidSetting: naming what is wrong.
    """

    directory_url: str
    folder: Path
    email: str | None = None
    hosts: tuple[str, ...] = ()
    on_demand: bool = False
    on_demand_base: str | None = None
    challenges: tuple[str, ...] = (HTTP, ALPN, DNS)
    ca_file: Path | None = None
    eab_kid: str | None = None
    eab_key: str | None = field(default=None, repr=False)
    private_ca: bool = False
    limits: IssuanceLimits = field(default_factory=IssuanceLimits)
    request_timeout: float = 15.0
    order_timeout: float = 300.0
    look_every: float = 30.0  # for what became due

    def __post_init__(self) -> None:
        for reason in (self._bad_server(), self._bad_account(), self._bad_challenges(), self._bad_hosts()):
            if reason:
                raise InvalidSetting(reason)

    def _bad_server(self) -> str | None:
        try:
            url = urlsplit(self.directory_url)
            sound = url.scheme == "https" and url.hostname and url.port != 0  # RFC 8555 §6.1
        except ValueError:
            sound = False
        return None if sound else f"the ACME directory {self.directory_url!r} is not an https URL"

    def _bad_account(self) -> str | None:
        if self.email is not None and not _EMAIL.fullmatch(self.email):
            return f"the ACME account's {self.email!r} is not one e-mail address"
        if (self.eab_kid is None) != (self.eab_key is None):
            return "external account binding needs both its key id and its key"
        if self.eab_key is not None and not _is_base64url(self.eab_key):
            return "the external account binding's key is not base64url"
        return None

    def _bad_challenges(self) -> str | None:
        for kind in self.challenges:
            if kind not in CHALLENGES:
                return f"the ACME challenge {kind!r} is not one of {', '.join(CHALLENGES)}"
        if not self.challenges:
            return f"ACME needs one of the challenges {', '.join(CHALLENGES)}"
        if self.on_demand and self.challenges == (DNS,):
            return f"certificates on demand need one of the challenges {HTTP} and {ALPN}"
        return None

    def _bad_hosts(self) -> str | None:
        for host in self.hosts:
            if reason := unsignable(host, self.private_ca, DNS in self.challenges):
                return f"no CA would sign a certificate for {host!r}: {reason}"
        return None


def _is_base64url(text: str) -> bool:
    try:
        return bool(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        return False
