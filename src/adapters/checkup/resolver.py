"""What the system's resolver says of a name: hosts file, DNS and whatever else is configured."""

from __future__ import annotations

import socket

from tunnel_server.adapters.checkup.aside import aside
from tunnel_server.domain.diagnosis.dns import Resolved

MAX_ADDRESSES = 16  # of one name
_MISSING = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


async def resolve(host: str, limit: float) -> Resolved:
    """Return the addresses of ``host``, or why there are none; never fails, and takes at most ``limit`` seconds."""
    try:
        found = await aside(lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM), limit)
    except TimeoutError:
        return Resolved(host, problem=f"the resolver does not answer within {limit:g} s")
    except socket.gaierror as error:
        if error.errno in _MISSING:
            return Resolved(host, problem="does not exist", missing=True)
        return Resolved(host, problem=f"the resolver fails: {error.strerror}")
    except (OSError, ValueError) as error:
        return Resolved(host, problem=f"cannot be resolved: {error}")
    addresses = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found)
    return Resolved(host, tuple(addresses)[:MAX_ADDRESSES])


def is_here(address: str) -> bool:
    """Return whether this machine has ``address``; nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def own_addresses() -> tuple[str, ...]:
    """Return the addresses by which this machine would go to the internet; nothing is sent."""
    found = []
    for family, somewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((somewhere, 9))
                found.append(str(probe.getsockname()[0]))
        except OSError:
            continue
    return tuple(found)
