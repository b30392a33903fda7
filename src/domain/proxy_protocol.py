"""The PROXY protocol, versions 1 and 2, as its receiver reads it (haproxy's ``proxy-protocol.txt``).

A load balancer writes one header before the connection's own bytes and says there who the visitor is. What the
specification leaves to the receiver is refused here: a header is only read from a proxy that is trusted, and one
that is not understood would name the wrong visitor.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from tunnel_server.domain.errors import InvalidProxyHeader

MAX_V1 = 107  # octets of a version 1 header, CR LF included
MAX_V2 = 4096  # octets that a version 2 header says follow its first 16; the format could say 65,535

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = 16  # octets of a version 2 header: signature, version and command, family, length

_LOCAL, _PROXY = 0x20, 0x21  # version and command
_UNSPEC, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31  # family and transport
_DATAGRAMS = (0x12, 0x22, 0x32)
_ADDRESSES = {_TCP4: 12, _TCP6: 36, _UNIX: 216}  # octets: two addresses, and two ports but for UNIX

_CRC32C = 0x03  # the type of the TLV that holds a checksum of the whole header


@dataclass(frozen=True, slots=True)
class Told:
    """What a header tells. ``source`` is the visitor's address and port, ``size`` the header's octets.

    ``source`` is ``None`` where the connection speaks for itself: LOCAL, UNKNOWN, unspecified and UNIX sources. An
    IPv4 address mapped into IPv6 (RFC 4291 §2.5.5.2) is given as IPv4.
    """

    source: tuple[str, int] | None
    size: int


def begins(data: bytes) -> bool | None:
    """Tell whether a connection's first octets begin a header; ``None`` while they are too few to tell."""
    if data.startswith((_V1, _V2)):
        return True
    return None if _V1.startswith(data) or _V2.startswith(data) else False


def read(data: bytes) -> Told | None:
    """Read the header that ``data`` begins with; ``None`` while more octets are needed.

    At most :data:`MAX_V1` octets, or 16 + :data:`MAX_V2`, are ever needed. What follows the header is not looked at.

    Raises:
        InvalidProxyHeader: as soon as it cannot become a header any more.
    """
    match begins(data):
        case None:
            return None
        case False:
            raise InvalidProxyHeader(f"begins with {data[: len(_V2)]!r}, not with a signature")
    return _read_v1(data) if data.startswith(_V1) else _read_v2(data)


def _read_v1(data: bytes) -> Told | None:
    end = data.find(b"\n", 0, MAX_V1) + 1
    if not end:
        if len(data) >= MAX_V1:
            raise InvalidProxyHeader(f"version 1: no line end in {MAX_V1} octets")
        return None
    line = data[:end]
    if not line.endswith(b"\r\n"):
        raise InvalidProxyHeader("version 1: the line ends without CR")
    family, *words = line[len(_V1) : -2].split(b" ")
    if family == b"UNKNOWN":  # what follows is to be ignored
        return Told(None, end)
    if family not in (b"TCP4", b"TCP6"):
        raise InvalidProxyHeader(f"version 1: {family!r} is none of TCP4, TCP6, UNKNOWN")
    if len(words) != 4:
        raise InvalidProxyHeader(f"version 1: {len(words)} words after {family.decode()}, not two addresses, two ports")
    addresses = [_written_address(family, word) for word in words[:2]]
    ports = [_written_port(word) for word in words[2:]]
    return Told((addresses[0], ports[0]), end)


def _written_address(family: bytes, word: bytes) -> str:
    try:
        text = word.decode("ascii")
        if family == b"TCP4":
            return str(IPv4Address(text))
        if "%" in text:
            raise ValueError("a zone means nothing on another machine")
        return _ipv6(IPv6Address(text))
    except ValueError:
        raise InvalidProxyHeader(f"version 1: {word!r} is no address of {family.decode()}") from None


def _written_port(word: bytes) -> int:
    if word.isdigit() and len(word) <= 5 and (word == b"0" or word[:1] != b"0") and int(word) <= 0xFFFF:
        return int(word)
    raise InvalidProxyHeader(f"version 1: {word!r} is no port")


def _read_v2(data: bytes) -> Told | None:
    _check_fixed(data[:_FIXED])
    if len(data) < _FIXED:
        return None
    size = _FIXED + int.from_bytes(data[14:_FIXED], "big")
    if len(data) < size:
        return None
    command, family = data[12:14]
    if command == _LOCAL or family == _UNSPEC:  # the block, of whatever form, is to be discarded
        return Told(None, size)
    header = data[:size]
    _check_tlvs(header, _FIXED + _ADDRESSES[family])
    return Told(_packed_source(family, header[_FIXED:]), size)


def _check_fixed(fixed: bytes) -> None:
    """Refuse a version 2 header by as much of its first 16 octets as there is."""
    command, family = (*fixed[12:14], None, None)[:2]
    if command is None:
        return
    if command >> 4 != 2:
        raise InvalidProxyHeader(f"version {command >> 4} behind the signature of version 2")
    if command not in (_LOCAL, _PROXY):
        raise InvalidProxyHeader(f"version 2: command {command & 15} is neither LOCAL nor PROXY")
    if family is None:
        return
    if command == _PROXY and family != _UNSPEC and family not in _ADDRESSES:
        what = "datagrams, which no connection is" if family in _DATAGRAMS else "no family and transport"
        raise InvalidProxyHeader(f"version 2: {family:#04x} means {what}")
    if len(fixed) == _FIXED:
        _check_length(int.from_bytes(fixed[14:], "big"), _ADDRESSES.get(family, 0) if command == _PROXY else 0)


def _check_length(length: int, addresses: int) -> None:
    if length > MAX_V2:
        raise InvalidProxyHeader(f"version 2: {length} octets, more than {MAX_V2}")
    if length < addresses:
        raise InvalidProxyHeader(f"version 2: {length} octets, but the addresses take {addresses}")


def _packed_source(family: int, block: bytes) -> tuple[str, int] | None:
    if family == _TCP4:
        return str(IPv4Address(block[:4])), int.from_bytes(block[8:10], "big")
    if family == _TCP6:
        return _ipv6(IPv6Address(block[:16])), int.from_bytes(block[32:34], "big")
    return None


def _ipv6(address: IPv6Address) -> str:
    return str(address.ipv4_mapped or address)


def _check_tlvs(header: bytes, start: int) -> None:
    """Walk over the extensions, each a type, a length of two octets and a value; verify a checksum."""
    checked = False
    while start < len(header):
        value = start + 3
        end = value + int.from_bytes(header[start + 1 : value], "big")
        if value > len(header) or end > len(header):
            raise InvalidProxyHeader(f"version 2: the extension at octet {start} is longer than the header")
        if header[start] == _CRC32C:
            if checked or end - value != 4:
                raise InvalidProxyHeader("version 2: a checksum twice, or not of four octets")
            _verify(header, value)
            checked = True
        start = end


def _verify(header: bytes, at: int) -> None:
    blanked = header[:at] + bytes(4) + header[at + 4 :]
    if int.from_bytes(header[at : at + 4], "big") != crc32c(blanked):
        raise InvalidProxyHeader("version 2: the checksum is wrong")


def _remainder(octet: int) -> int:
    for _ in range(8):
        octet = octet >> 1 ^ (0x82F63B78 if octet & 1 else 0)
    return octet


_REMAINDERS = tuple(_remainder(octet) for octet in range(256))


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of ``data`` (RFC 3720 appendix B.4 has examples)."""
    crc = 0xFFFFFFFF
    for octet in data:
        crc = crc >> 8 ^ _REMAINDERS[(crc ^ octet) & 0xFF]
    return crc ^ 0xFFFFFFFF
