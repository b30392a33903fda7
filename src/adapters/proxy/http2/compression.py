"""Field compression (RFC 7541) in bounded time and memory.

hpack copies what is left of a block for every field of it, and has no limit on their number, so a small block could
keep the loop for long; and its encoder's table is as large as the visitor says. Here reading is linear and stops at
a limit, and answers are written without a table: so a field is encoded once for all connections, and no app's answer
shares a compression context with another's.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache

from h2.errors import ErrorCodes
from hpack.exceptions import HPACKDecodingError
from hpack.table import HeaderTable

from tunnel_server.adapters.proxy.http2.huffman import decode_huffman
from tunnel_server.adapters.proxy.http2.limits import Violation
from tunnel_server.domain.forwarding import Field

TABLE = 4096  # octets of a decoder's table, RFC 7541 §4.1; the default of SETTINGS_HEADER_TABLE_SIZE
OVERHEAD = 32  # octets a field counts for beyond its text, there
REMEMBERED = 128  # octets of a field's value up to which its encoding is remembered

_STATIC: tuple[Field, ...] = tuple(HeaderTable.STATIC_TABLE)
_WHOLE = {field: index for index, field in reversed(list(enumerate(_STATIC, 1)))}
_NAMES = {field[0]: index for index, field in reversed(list(enumerate(_STATIC, 1)))}
_SECRET = frozenset({b"set-cookie", b"authorization"})  # never to be put in a table on the way, RFC 7541 §7.1.3

NO_TABLE = b"\x20"  # sets the size of the table to 0, RFC 7541 §6.3


class _TooDear(Exception):
    """A block takes too long to read."""


class FieldDecoder:
    """Reads field blocks in h2's place: the fields are for us, and h2, which needs none, is given none.

    ``fields`` are those of the last block; ``oversized`` is whether it had more than is to be read, which then are
    left out. A block of four times as much is a :class:`Violation`.

    Huffman coding is slow to read, at 0.05 µs an octet: a block with more of it than half of ``max_size`` is
    oversized, too, and read no further. What both sides share is ``lost`` with it, so each later block is oversized.
    """

    max_header_list_size = max_allowed_table_size = 0  # h2 sets them

    def __init__(self, max_size: int, max_fields: int) -> None:
        self._max_size = max_size
        self._max_fields = max_fields
        self._max_coded = max_size >> 1
        self._coded = 0  # octets in Huffman coding, of the block being read
        self._table: deque[Field] = deque()  # the last one first
        self._table_size = 0
        self._table_limit = TABLE
        self._same: dict[bytes, list[Field]] = {}  # what blocks mean while the table stays as it is
        self.fields: list[Field] = []
        self.oversized = self.lost = False

    def decode(self, data: bytes, raw: bool = True) -> list[Field]:
        """Read a block into ``fields``.

        Raises:
            Violation: the block is broken, and with it the state that both sides share; or it is a bomb.
        """
        fields = self._same.get(data)
        self.oversized = self.lost
        if fields is None and not self.lost:
            try:
                fields = self._decode(data)
            except _TooDear:
                self.oversized = self.lost = True
            except (IndexError, HPACKDecodingError):
                raise Violation(ErrorCodes.COMPRESSION_ERROR, "a field block is broken") from None
        self.fields = fields or []
        return []

    def _decode(self, block: bytes) -> list[Field]:
        at, end = 0, len(block)
        fields: list[Field] = []
        count = size = updates = self._coded = 0
        changed = False
        while at < end:
            first = block[at]
            if first & 0x80:
                index, at = _integer(block, at, 0x7F)
                field = self._at(index)
            elif first & 0x40:
                field, at = self._literal(block, at, 0x3F)
                self._insert(field)
                changed = True
            elif first & 0x20:
                updates += 1
                at = self._resize(block, at, allowed=not count and updates <= 2)
                changed = True
                continue
            else:
                field, at = self._literal(block, at, 0x0F)
            count += 1
            size += len(field[0]) + len(field[1]) + OVERHEAD
            if size <= self._max_size and count <= self._max_fields:
                fields.append(field)
            elif size > 4 * self._max_size or count > 4 * self._max_fields:
                raise Violation(ErrorCodes.ENHANCE_YOUR_CALM, "far too many fields")
            else:
                self.oversized = True
        self._remember(block, fields, changed)
        return fields

    def _remember(self, block: bytes, fields: list[Field], changed: bool) -> None:
        if changed:
            self._same.clear()
        elif len(block) <= REMEMBERED and len(self._same) < 64 and not self.oversized:
            self._same[block] = fields

    def _at(self, index: int) -> Field:
        if not index:
            raise IndexError
        return _STATIC[index - 1] if index <= len(_STATIC) else self._table[index - len(_STATIC) - 1]

    def _literal(self, block: bytes, at: int, mask: int) -> tuple[Field, int]:
        index, at = _integer(block, at, mask)
        if index:
            name = self._at(index)[0]
        else:
            name, at = self._string(block, at)
        value, at = self._string(block, at)
        return (name, value), at

    def _string(self, block: bytes, at: int) -> tuple[bytes, int]:
        coded = block[at] & 0x80
        size, at = _integer(block, at, 0x7F)
        end = at + size
        if end > len(block):
            raise IndexError
        if not coded:
            return block[at:end], end
        self._coded += size
        if self._coded > self._max_coded:
            raise _TooDear
        return decode_huffman(block[at:end]), end

    def _resize(self, block: bytes, at: int, *, allowed: bool) -> int:
        """Change the table's size; return where the change ends (RFC 7541 §6.3)."""
        limit, at = _integer(block, at, 0x1F)
        if limit > TABLE or not allowed:  # RFC 7541 §4.2
            raise Violation(ErrorCodes.COMPRESSION_ERROR, "a wrong change of the table's size")
        self._table_limit = limit
        self._evict(limit)
        return at

    def _insert(self, field: Field) -> None:
        size = len(field[0]) + len(field[1]) + OVERHEAD
        self._evict(self._table_limit - size)
        if size <= self._table_limit:
            self._table.appendleft(field)
            self._table_size += size

    def _evict(self, limit: int) -> None:
        while self._table and self._table_size > limit:
            name, value = self._table.pop()
            self._table_size -= len(name) + len(value) + OVERHEAD


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """Return the integer at ``at`` and where it ends (RFC 7541 §5.1); at most 2^28 or so is read."""
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    for shift in (0, 7, 14, 21):
        octet = block[at]
        at += 1
        value += (octet & 0x7F) << shift
        if not octet & 0x80:
            return value, at
    raise IndexError


class FieldEncoder:
    """Writes field blocks in h2's place, without a table."""

    header_table_size = 0  # h2 sets it to what the visitor would hold

    def __init__(self) -> None:
        self._first = True

    def encode(self, headers: list[Field]) -> bytes:
        """Return the block of ``headers``; the first one of a connection tells that there is no table."""
        block = b"".join([_encoded(field) if len(field[1]) <= REMEMBERED else _literal(field) for field in headers])
        if self._first:
            self._first = False
            return NO_TABLE + block
        return block


def _literal(field: Field) -> bytes:
    name, value = field
    index = _NAMES.get(name, 0)
    kind = 0x10 if name in _SECRET else 0
    start = _number(index, 0x0F, kind) if index else _number(0, 0x0F, kind) + _number(len(name), 0x7F) + name
    return start + _number(len(value), 0x7F) + value


@lru_cache(4096)
def _encoded(field: Field) -> bytes:
    index = _WHOLE.get(field)
    return _number(index, 0x7F, 0x80) if index else _literal(field)


def _number(value: int, mask: int, kind: int = 0) -> bytes:
    """Return an integer (RFC 7541 §5.1) behind the bits ``kind``."""
    if value < mask:
        return bytes((kind | value,))
    octets = [kind | mask]
    value -= mask
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)
