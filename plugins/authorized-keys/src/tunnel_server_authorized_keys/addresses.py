"""The ``from=`` option: addresses, networks and patterns of addresses, as in PATTERNS of ssh_config(5)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self

from tunnel_server_authorized_keys.patterns import matches

_PATTERN = re.compile(r"(?=.*[*?])(?:[0-9.*?]+|(?=.*:)[0-9a-f.:*?]+|\*+)")


@dataclass(frozen=True, slots=True)
class AddressPatterns:
    """Where a key may be used from: at least one entry covers the address, and no entry with ``!`` does."""

    allowed: tuple[IPv4Network | IPv6Network | str, ...]
    excluded: tuple[IPv4Network | IPv6Network | str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read entries separated by commas.

        Raises:
            ValueError: an entry is neither address, network nor pattern. Host names are refused, since to match them
                takes DNS: one behind ``!`` would exclude nobody.
        """
        allowed: list[IPv4Network | IPv6Network | str] = []
        excluded: list[IPv4Network | IPv6Network | str] = []
        for word in text.split(","):
            (excluded if word.startswith("!") else allowed).append(_entry(word.removeprefix("!").lower()))
        return cls(tuple(allowed), tuple(excluded))

    def permit(self, address: str) -> bool:
        """Return whether the key may be used from ``address``; never from what is no IP address."""
        try:
            found = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        if any(_covers(entry, found) for entry in self.excluded):
            return False
        return any(_covers(entry, found) for entry in self.allowed)


def _entry(word: str) -> IPv4Network | IPv6Network | str:
    if _PATTERN.fullmatch(word):
        return word
    try:
        return ip_network(word)
    except ValueError as error:
        if "host bits" in str(error):
            raise ValueError(f"{word[:80]!r} has bits set behind its mask") from None
        raise ValueError(f"{word[:80]!r} is no address, network or pattern of addresses") from None


def _covers(entry: IPv4Network | IPv6Network | str, address: IPv4Address | IPv6Address) -> bool:
    return matches(str(address), entry) if isinstance(entry, str) else address in entry
