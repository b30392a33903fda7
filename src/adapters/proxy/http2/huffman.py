"""Reading Huffman coding (RFC 7541 §5.2), an octet at a step.

hpack steps by half octets, which takes three times as long, and nobody else has the loop meanwhile. Its table is used.
"""

from __future__ import annotations

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE


class _State(dict[int, tuple["_State", bytes, bool]]):
    """What follows in one state on each octet: the next state, the text, whether the text may end there.

    Found out when it is first asked for: most of the 65,536 never are.
    """

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def __missing__(self, octet: int) -> tuple[_State, bytes, bool]:
        state, flags, text = self._number, 0, b""
        for half in (octet >> 4, octet & 0x0F):
            state, flags, symbol = HUFFMAN_TABLE[state * 16 + half]
            if flags & HUFFMAN_FAIL:
                raise HPACKDecodingError("Invalid Huffman string")
            if flags & HUFFMAN_EMIT_SYMBOL:
                text += bytes((symbol,))
        step = self[octet] = _STATES[state], text, bool(flags & HUFFMAN_COMPLETE)
        return step


_STATES = [_State(number) for number in range(len(HUFFMAN_TABLE) // 16)]


def decode_huffman(coded: bytes) -> bytes:
    """Return the text that ``coded`` stands for.

    Raises:
        HPACKDecodingError: it stands for none.
    """
    state, complete = _STATES[0], True
    texts = []
    for octet in coded:
        state, text, complete = state[octet]
        texts.append(text)
    if not complete:
        raise HPACKDecodingError("Invalid Huffman string")
    return b"".join(texts)
