"""A client's OpenSSH certificate: what is checked of it here, and what the policies are told."""

from __future__ import annotations

from ipaddress import ip_address
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from asyncssh.public_key import CERT_TYPE_USER

from tunnel_server.domain.admission import Certificate

if TYPE_CHECKING:
    from asyncssh.public_key import SSHOpenSSHCertificate

_FOREVER = (1 << 64) - 1  # OpenSSH's PROTOCOL.certkeys: of no end


def checked(certificate: SSHOpenSSHCertificate, address: str) -> Certificate | None:
    """Return a certificate that may be used now from ``address``; asyncssh has checked its signature.

    ``None`` if it is a host's, not valid now, or for other addresses.
    """
    told: Any = certificate
    try:
        told.validate(CERT_TYPE_USER, None)
        networks = told.options.get("source-address")
        if networks and not any(ip_address(address) in network for network in networks):
            return None
    except ValueError:
        return None
    ends = told._valid_before
    return Certificate(
        authority=told.signing_key.public_data,
        key_id=str(told._key_id),
        serial=int(told._serial),
        principals=tuple(map(str, told.principals)),
        valid_after=float(told._valid_after),
        valid_before=inf if ends >= _FOREVER else float(ends),
        options=MappingProxyType(dict(told.options)),
    )
