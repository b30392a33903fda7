"""Names on the web: the host label of a tunnel, and its URL."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Self

from tunnel_server.domain.errors import InvalidBaseUrl, InvalidName, InvalidTunnelName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tunnel_server.domain.identity import ClientId

RESERVED = frozenset({"auth", "api", "proxy"})  # labels of the server's own
MAX_LABEL = 63  # octets in one DNS label, RFC 1035 §2.3.4
_DIGEST = 4  # characters of a digest in a label
_UNCLEAN = re.compile(r"[^A-Za-z0-9_-]")

_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
MAX_HOST = 253  # octets in a host name, RFC 1035 §2.3.4
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")

_DEFAULT_PORTS = {"http": 80, "https": 443}
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<host>\[[^\]]*\]|[^/:?#@]*)(?::(?P<port>[^/?#]*))?/?")
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")


def host_label(name: str, client: ClientId) -> str:
    """Return the label ``name`` gets for ``client``, at most 63 octets.

    Names cut or cleaned alike stay apart by a digest of the original; where that
    fails, or a clean name spells another's digest form, the registry refuses the second.

    Raises:
        InvalidTunnelName: ``name`` is empty.
    """
    if not name:
        raise InvalidTunnelName("a tunnel needs a name")
    room = MAX_LABEL - len(client.value) - 1
    clean = _clean(name)
    if clean != name or len(name) > room:
        digest = base64.urlsafe_b64encode(
            hashlib.md5(name.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
        )
        clean = f"{clean[: room - _DIGEST - 1]}-{_clean(digest.decode('ascii'))[:_DIGEST]}"
    return f"{clean}-{client}".lower()


def _clean(text: str) -> str:
    return _UNCLEAN.sub("-", text).lower()


def checked_names(names: Iterable[str], base: BaseUrl) -> tuple[str, ...]:
    """Return the names that were given to a tunnel, in lower case and each once.

    Raises:
        InvalidName: one is no label, nor a whole host name, is reserved, or is at or above the base host's own names.
    """
    return tuple(dict.fromkeys(_checked_name(_lower(name).removesuffix("."), base.hostname) for name in names))


def _lower(name: str) -> str:
    """Return an ASCII name in lower case; what is no ASCII could become a name that its plugin has not seen."""
    if not name.isascii():
        raise InvalidName(f"{name[:80]!r} is no host name: write it as A-labels (RFC 5890)")
    return name.lower()


def _checked_name(name: str, base: str) -> str:
    if "." not in name:
        if _LABEL.fullmatch(name) is None:
            raise InvalidName(f"{name[:80]!r} is no label of a host name")
        if name in RESERVED:
            raise InvalidName(f"the name {name!r} is the server's own")
        return name
    if len(name) > MAX_HOST or not all(map(_LABEL.fullmatch, name.removeprefix("*.").split("."))):
        raise InvalidName(f"{name[:80]!r} is no host name")
    if "." not in name.removeprefix("*."):
        raise InvalidName(f"{name!r} takes all of a top-level domain")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):  # RFC 1123 §2.1, and what browsers take for an IPv4 address
        raise InvalidName(f"{name!r} is no host name")
    if name == base or f".{name}".endswith(f".{base}") or name == "*." + base.partition(".")[2]:
        raise InvalidName(f"{name!r} is under the server's own host, where names have no dots")
    return name


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """Where the server is reached: ``<scheme>://<hostname>[:<port>]``, nothing else.

    ``hostname`` is in lower case, an IPv6 address in brackets. ``port`` is ``None`` for the scheme's own.
    """

    scheme: str
    hostname: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a base URL.

        Raises:
            InvalidBaseUrl: saying which part is wrong.
        """
        match = _URL.fullmatch(text)
        if match is None:
            raise InvalidBaseUrl(f"{text!r} is not scheme://host[:port] and nothing else")
        scheme, host, port = match["scheme"].lower(), match["host"].lower(), match["port"]
        if scheme not in _DEFAULT_PORTS:
            raise InvalidBaseUrl(f"the scheme {scheme!r} is neither http nor https")
        return cls(scheme, _hostname(host), _port(port, scheme))

    @property
    def effective_port(self) -> int:
        """The port that visitors connect to."""
        return self.port or _DEFAULT_PORTS[self.scheme]

    @property
    def authority(self) -> str:
        """The server's own host, and port if it is not the scheme's own."""
        return self._authority(self.hostname)

    @property
    def root_url(self) -> str:
        """The URL of the server itself, ending in ``/``."""
        return f"{self.scheme}://{self.authority}/"

    def tunnel_url(self, label: str) -> str:
        """Return the URL of the tunnel with ``label``, ending in ``/``; one with a dot is a whole host name."""
        return f"{self.scheme}://{self._authority(self.tunnel_host(label))}/"

    def tunnel_host(self, label: str) -> str:
        """Return the host of the tunnel with ``label``."""
        return label if "." in label else f"{label}.{self.hostname}"

    def https_authority(self, port: int) -> str:
        """Return the host, and ``port`` if it is not HTTPS's own."""
        return self.hostname if port == _DEFAULT_PORTS["https"] else f"{self.hostname}:{port}"

    def describe(self) -> dict[str, str]:
        """Return what ``hello`` tells of it: ``hostname``, ``port`` (empty for the scheme's own), ``protocol``."""
        return {
            "hostname": self.hostname,
            "port": "" if self.port is None else str(self.port),
            "protocol": f"{self.scheme}:",
        }

    def _authority(self, host: str) -> str:
        return host if self.port is None else f"{host}:{self.port}"


def _hostname(host: str) -> str:
    if host.startswith("["):
        try:
            return f"[{IPv6Address(host[1:-1])}]"
        except ValueError:
            raise InvalidBaseUrl(f"{host!r} is not an IPv6 address") from None
    host = host.removesuffix(".")
    if _HOST.fullmatch(host) is None:
        raise InvalidBaseUrl(f"{host!r} is not a host name")
    return host


def _port(text: str | None, scheme: str) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536):
        raise InvalidBaseUrl(f"the port {text!r} is not a number from 1 to 65535")
    port = int(text)
    return None if port == _DEFAULT_PORTS[scheme] else port
