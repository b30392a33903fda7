"""What a TLS client asks for, read from the first octets of its connection (RFC 8446 §4.1.2, §5.1).

Only what decides who serves the connection is read: the server name (RFC 6066 §3) and the application protocols
(RFC 7301 §3.1). The TLS library reads the same octets after us and has the last word on all else, so what it could
read differently is refused here.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunnel_server.domain.errors import NotClientHello

MAX_SIZE = 64 * 1024  # octets, the heads of records among them; with post-quantum key shares some 2,000 are usual
MAX_RECORDS = 16  # one or two are usual; each look at the beginning of a connection walks over all of them

_RECORD_HEAD = 5  # octets: type, version, length
_MESSAGE_HEAD = 4  # octets: type, length
_HANDSHAKE = 22  # a record's type
_CLIENT_HELLO = 1  # a message's type
_MAX_FRAGMENT = 1 << 14  # octets in one record, RFC 8446 §5.1
_MAX_NAME = 255  # octets of a host's name, RFC 1035 §2.3.4

_SERVER_NAME, _ALPN = 0, 16  # types of extensions
_HOST_NAME = 0  # the only type of server name there is


@dataclass(frozen=True, slots=True)
class ClientHello:
    """``server_name`` is in lower case, 1 to 255 visible ASCII characters; ``alpn`` is in the client's order."""

    server_name: str | None
    alpn: tuple[bytes, ...]


def read(data: bytes) -> ClientHello | None:
    """Read the ClientHello that ``data`` begins with; ``None`` while more octets are needed, :data:`MAX_SIZE` at most.

    Records after the one that completes it, such as early data, are not looked at.

    Raises:
        NotClientHello: as soon as it cannot become a ClientHello any more.
    """
    message = _join(data)
    return None if message is None else _parse(message)


def _join(data: bytes) -> bytes | None:
    """Return the handshake message that the records carry, without its head; ``None`` while it is not whole."""
    message = bytearray()
    start = 0
    for _ in range(MAX_RECORDS):
        end = _end_of_record(data, start)
        message += data[start + _RECORD_HEAD : end]
        wanted = _size_of_message(message)
        if end is None or end > len(data):
            return None
        if wanted is not None and len(message) >= wanted:
            if len(message) > wanted:
                raise NotClientHello("more follows the ClientHello in its record")
            return bytes(message[_MESSAGE_HEAD:])
        start = end
    raise NotClientHello(f"in more than {MAX_RECORDS} records")


def _end_of_record(data: bytes, start: int) -> int | None:
    """Return where the record at ``start`` ends, as its head says; ``None`` while the head is not whole."""
    head = data[start : start + _RECORD_HEAD]
    if head and head[0] != _HANDSHAKE:
        raise NotClientHello(f"a record of type {head[0]}, not of a handshake")
    if len(head) > 1 and head[1] != 3:
        raise NotClientHello(f"a record of version {head[1]}, not of TLS")
    if len(head) < _RECORD_HEAD:
        return None
    length = int.from_bytes(head[3:], "big")
    if not 0 < length <= _MAX_FRAGMENT:
        raise NotClientHello(f"a record of {length} octets")
    end = start + _RECORD_HEAD + length
    if end > MAX_SIZE:
        raise NotClientHello(f"larger than {MAX_SIZE} octets")
    return end


def _size_of_message(message: bytearray) -> int | None:
    """Return the message's size, as its head says, head included; ``None`` while the head is not whole."""
    if message and message[0] != _CLIENT_HELLO:
        raise NotClientHello(f"a handshake message of type {message[0]}")
    if len(message) < _MESSAGE_HEAD:
        return None
    size = _MESSAGE_HEAD + int.from_bytes(message[1:_MESSAGE_HEAD], "big")
    if size > MAX_SIZE:
        raise NotClientHello(f"larger than {MAX_SIZE} octets")
    return size


class _Octets:
    """Octets that are read from the front; to read beyond their end is an error."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._at = 0
        self._what = what

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        """Return the next ``count`` octets."""
        end = self._at + count
        if end > len(self._data):
            raise NotClientHello(f"{self._what}: cut short")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def number(self, width: int) -> int:
        """Return the next number, of ``width`` octets."""
        return int.from_bytes(self.take(width), "big")

    def vector(self, width: int, least: int = 0, most: int = 0xFFFF) -> bytes:
        """Return the next vector, whose length takes ``width`` octets and is from ``least`` to ``most``."""
        length = self.number(width)
        if not least <= length <= most:
            raise NotClientHello(f"{self._what}: {length} octets")
        return self.take(length)

    def end(self) -> None:
        """Refuse what is left."""
        if self:
            raise NotClientHello(f"{self._what}: more follows")


def _parse(message: bytes) -> ClientHello:
    body = _Octets(message, "ClientHello")
    if body.number(2) >> 8 != 3:
        raise NotClientHello("a version that is not of TLS")
    body.take(32)  # random
    body.vector(1, most=32)  # session id
    if len(body.vector(2, least=2)) % 2:
        raise NotClientHello("half a cipher suite")
    body.vector(1, least=1)  # compression methods
    extensions = _extensions(body.vector(2)) if body else {}
    body.end()
    name, protocols = extensions.get(_SERVER_NAME), extensions.get(_ALPN)
    return ClientHello(
        None if name is None else _server_name(name),
        () if protocols is None else _protocols(protocols),
    )


def _extensions(block: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    octets = _Octets(block, "extensions")
    while octets:
        kind = octets.number(2)
        if kind in found:
            raise NotClientHello(f"extension {kind} twice")
        found[kind] = octets.vector(2)
    return found


def _server_name(extension: bytes) -> str:
    outer = _Octets(extension, "server names")
    names = _Octets(outer.vector(2, least=1), "server names")
    outer.end()
    if names.number(1) != _HOST_NAME:
        raise NotClientHello("a server name that is no host's")
    name = names.vector(2, least=1, most=_MAX_NAME)
    names.end()  # a second would have to be of another type, and there is none
    if not all(0x20 < octet < 0x7F for octet in name):
        raise NotClientHello(f"server name {name!r}")
    return name.decode("ascii").lower()


def _protocols(extension: bytes) -> tuple[bytes, ...]:
    outer = _Octets(extension, "application protocols")
    names = _Octets(outer.vector(2, least=2), "application protocols")
    outer.end()
    protocols = []
    while names:
        protocols.append(names.vector(1, least=1))
    return tuple(protocols)
