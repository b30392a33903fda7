"""Field compression beside hpack's: the same fields both ways, and a limit where hpack has none."""

from __future__ import annotations

from time import process_time

import pytest
from h2.errors import ErrorCodes
from hpack import Decoder, Encoder
from hpack.hpack import encode_integer as hpack_integer
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnel_server.adapters.proxy.http2.compression import FieldDecoder, FieldEncoder
from tunnel_server.adapters.proxy.http2.limits import Violation

names = st.one_of(
    st.sampled_from([b":path", b":status", b"cookie", b"set-cookie", b"x-a", b"date"]), st.binary(max_size=40)
)
fields = st.tuples(names, st.one_of(st.sampled_from([b"/", b"200", b""]), st.binary(max_size=300)))
blocks = st.lists(st.lists(st.tuples(fields, st.booleans()), max_size=12), max_size=6)


@given(blocks, st.booleans())
@settings(max_examples=150, deadline=None)
def test_what_hpack_writes_is_read_as_it_was_meant(sent: list, huffman: bool) -> None:  # type: ignore[type-arg]
    encoder, decoder = Encoder(), FieldDecoder(1 << 20, 1000)
    for number, block in enumerate(sent):
        encoder.header_table_size = (4096, 200, 0, 1000)[number % 4]
        decoder.decode(encoder.encode([(*field, secret) for field, secret in block], huffman=huffman))

        assert decoder.fields == [field for field, _ in block]


@given(st.lists(st.lists(fields, max_size=12), max_size=5))
@settings(max_examples=150, deadline=None)
def test_what_is_written_hpack_reads(sent: list) -> None:  # type: ignore[type-arg]
    encoder, decoder = FieldEncoder(), Decoder(max_header_list_size=1 << 20)
    for block in sent:
        assert list(decoder.decode(encoder.encode(block), raw=True)) == block


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_anything_is_read_or_refused(block: bytes) -> None:
    decoder = FieldDecoder(1000, 20)
    code = None
    try:
        decoder.decode(block)
    except Violation as error:
        code = error.code

    assert code in (None, ErrorCodes.COMPRESSION_ERROR, ErrorCodes.ENHANCE_YOUR_CALM)
    assert len(decoder.fields) <= 20


def test_the_same_block_means_something_else_once_the_table_changed() -> None:
    decoder = FieldDecoder(1 << 16, 100)
    decoder.decode(b"\x40\x01a\x01b")
    decoder.decode(b"\xbe")
    assert decoder.fields == [(b"a", b"b")]
    decoder.decode(b"\x40\x01c\x01d")
    decoder.decode(b"\xbe")
    assert decoder.fields == [(b"c", b"d")]


def test_fields_beyond_the_limit_are_left_out_and_told() -> None:
    decoder = FieldDecoder(1 << 16, 3)
    decoder.decode(b"\x82" * 4)

    assert decoder.oversized and len(decoder.fields) == 3
    decoder.decode(b"\x82")
    assert not decoder.oversized


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x82" * 16_000,
        b"\x40\x01a\x7f\xff\x1d" + b"b" * 3966 + b"\xbe" * 12_000,
        b"\x40\x01a\x00" * 16_000,
        b"\x00\x00\x00" * 20_000,
    ],
    ids=["static", "table", "inserts", "empty"],
)
def test_a_bomb_is_refused_before_it_goes_off(bomb: bytes) -> None:
    decoder = FieldDecoder(64 * 1024, 100)
    began = process_time()
    with pytest.raises(Violation) as refused:
        decoder.decode(bomb)

    assert refused.value.code is ErrorCodes.ENHANCE_YOUR_CALM
    assert process_time() - began < 0.05


def coded(octets: int) -> bytes:
    """Return a field whose value has that many octets in Huffman coding."""
    size = octets - octets % 5  # of "0", which has five bits
    return b"\x00\x01a" + encode_integer(size, 7, 0x80) + bytes(size)


def encode_integer(value: int, bits: int, kind: int) -> bytes:
    octets = hpack_integer(value, bits)
    octets[0] |= kind
    return bytes(octets)


def test_huffman_coding_is_read_up_to_half_of_the_limit_and_no_further() -> None:
    decoder = FieldDecoder(64 * 1024, 100)
    began = process_time()
    decoder.decode(coded(16_000) * 2)
    assert [len(value) for _, value in decoder.fields] == [25_600] * 2 and not decoder.lost

    for _ in range(100):
        decoder.decode(b"\x82" + coded(60_000))
        assert decoder.oversized and decoder.lost and not decoder.fields
    assert process_time() - began < 0.1

    decoder.decode(b"\x82")  # what the table holds is not known any more
    assert decoder.oversized and not decoder.fields


def test_what_is_not_coded_may_be_as_long_as_the_limit() -> None:
    decoder = FieldDecoder(64 * 1024, 100)
    decoder.decode(b"\x00\x01a" + encode_integer(60_000, 7, 0) + b"x" * 60_000)

    assert len(decoder.fields[0][1]) == 60_000 and not decoder.oversized


def test_the_table_may_be_resized_at_a_blocks_beginning_only() -> None:
    for block in (b"\x82\x20", b"\x20" * 3, b"\x3f\xe2\x1f"):
        with pytest.raises(Violation) as refused:
            FieldDecoder(64 * 1024, 100).decode(block)
        assert refused.value.code is ErrorCodes.COMPRESSION_ERROR


def test_a_cookie_that_is_set_is_never_put_in_a_table() -> None:
    block = FieldEncoder().encode([(b"set-cookie", b"a=1")])

    assert block[1] & 0xF0 == 0x10
