"""Huffman coding beside hpack's."""

from __future__ import annotations

import pytest
from hpack.exceptions import HPACKDecodingError
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman as decode_with_hpack
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnel_server.adapters.proxy.http2.huffman import decode_huffman


@given(st.binary(max_size=100))
@settings(max_examples=300, deadline=None)
def test_what_hpack_codes_is_read(text: bytes) -> None:
    assert decode_huffman(HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text)) == text


@given(st.binary(max_size=8))
@settings(max_examples=1000, deadline=None)
def test_anything_is_read_as_hpack_reads_it_or_refused_as_well(coded: bytes) -> None:
    try:
        expected = bytes(decode_with_hpack(coded))
    except HPACKDecodingError:
        with pytest.raises(HPACKDecodingError):
            decode_huffman(coded)
    else:
        assert decode_huffman(coded) == expected
