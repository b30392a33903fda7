"""What the names of a base URL resolve to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from tunnel_server.domain.diagnosis.finding import Finding, failed, ok, skipped, warning

TOLD = 4  # addresses that a line has room for


@dataclass(frozen=True, slots=True)
class Resolved:
    """A name's addresses, or why there are none; ``missing`` if it is known not to exist."""

    host: str
    addresses: tuple[str, ...] = ()
    problem: str = ""
    missing: bool = False


def is_local(hostname: str) -> bool:
    """Return whether a name is this machine by definition (RFC 6761 §6.3)."""
    return hostname == "localhost" or hostname.endswith(".localhost")


def nameless(hostname: str) -> str:
    """Return why there are no names to look for below ``hostname``; empty if there are."""
    if is_local(hostname):
        return f"{hostname} is this machine, whatever DNS says: nobody else gets here by it"
    return f"{hostname} is an address, not a name" if is_address(hostname) else ""


def is_address(hostname: str) -> bool:
    """Return whether a host is an IP address, one of version 6 in brackets or not."""
    try:
        ip_address(hostname.strip("[]"))
    except ValueError:
        return False
    return True


def base(found: Resolved) -> Finding:
    """Judge the base host."""
    if is_address(found.host):
        return warning(
            f"the base host {found.host} is an address, so no tunnel has a name of its own",
            "set BASE_URL to a domain name with a wildcard record; by address, tunnels are at /proxy/<label>/ only",
        )
    if found.problem:
        return _unresolved(found, f"make an A record (and AAAA, if there is IPv6) for {found.host} with the public")
    if all(ip_address(address).is_loopback for address in found.addresses):
        return warning(
            f"{found.host} -> {told(found.addresses)}, this machine's loopback",
            f"see /etc/hosts here, and what others see: `dig +short {found.host}` on another machine has to print "
            "the public address",
        )
    return ok(f"{found.host} -> {told(found.addresses)}")


def _unresolved(found: Resolved, remedy: str) -> Finding:
    if found.missing:
        return failed(
            f"{found.host}: {found.problem}", f"{remedy} address of this server; a new record may take minutes"
        )
    return failed(
        f"{found.host}: {found.problem}",
        f"see that the resolvers in /etc/resolv.conf answer here: `getent ahosts {found.host}`",
    )


def wildcard(own: Resolved, found: Resolved) -> Finding:
    """Judge a name below the base host that nobody has a record for; ``own`` is the base host."""
    star = f"*.{own.host}"
    if found.problem:
        made = _unresolved(found, f"make a wildcard record: `{star} CNAME {own.host}.`, or A and AAAA with the public")
        return failed(f"{star} ({made.found})", made.fix)
    if not own.addresses or set(own.addresses) == set(found.addresses):
        return ok(f"{star} -> {told(found.addresses)}")
    return warning(
        f"{star} -> {told(found.addresses)}, but {own.host} -> {told(own.addresses)}",
        f"give both the same addresses: `{star} CNAME {own.host}.` follows by itself",
    )


def reserved(star: Resolved, found: Resolved) -> Finding:
    """Judge a name of the server's own below the base host; ``star`` is one that nobody has a record for."""
    if found.problem and star.problem:
        return skipped(f"{found.host}: as the wildcard")
    if found.problem:
        return failed(
            f"{found.host}: {found.problem}, though the wildcard is there",
            f"a record of another type for {found.host}, or below it, keeps the wildcard from it (RFC 4592): remove "
            "that, or give it an address record too",
        )
    if star.addresses and set(star.addresses) != set(found.addresses):
        return warning(
            f"{found.host} -> {told(found.addresses)}, not where the wildcard leads",
            f"remove the record for {found.host}: the server needs that name for itself",
        )
    return ok(f"{found.host} -> {told(found.addresses)}")


def told(addresses: Iterable[str]) -> str:
    """Return addresses for people, some if there are many."""
    every = list(addresses)
    return ", ".join(every[:TOLD]) + (f" and {len(every) - TOLD} more" if len(every) > TOLD else "")
