"""Our AEAD ciphers against asyncssh's, byte for byte, and against published packets."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from asyncssh.encryption import Encryption, get_encryption, get_encryption_params
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnel_server.adapters.ssh.aead import TAG, ChachaCipher, GcmCipher, PacketCipher
from tunnel_server.adapters.ssh.lean import _lean

GCM_128, GCM_256, CHACHA = b"aes128-gcm@openssh.com", b"aes256-gcm@openssh.com", b"chacha20-poly1305@openssh.com"
EACH = (GCM_128, GCM_256, CHACHA)
EDGES = (0, 1, 255, 256, 65535, 65536, 2**31, 2**32 - 2, 2**32 - 1)  # sequence numbers
SIZES = (1, 4, 8, 12, 15, 16, 17, 63, 64, 65, 1024, 32 * 1024 + 20)

each = pytest.mark.parametrize("name", EACH, ids=bytes.decode)
sequences = st.one_of(st.sampled_from(EDGES), st.integers(0, 2**32 - 1))


class Pair:
    """The same keys twice: asyncssh's cipher, and ours."""

    def __init__(self, name: bytes, seed: bytes = b"k", iv: bytes | None = None) -> None:
        key_size, iv_size, _, _, _, _ = get_encryption_params(name)
        key = (seed * 64)[:key_size]
        iv = (seed * 12)[:iv_size] if iv is None else iv[:iv_size]
        self.theirs = get_encryption(name, key, iv)
        ours = _lean(get_encryption(name, key, iv))
        assert isinstance(ours, PacketCipher)
        self.ours: PacketCipher = ours


def header(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big")


def sealed_by_asyncssh(pair: Pair, sequence: int, body: bytes) -> bytes:
    return b"".join(pair.theirs.encrypt_packet(sequence, header(body), body))


def sealed_by_us(pair: Pair, sequence: int, body: bytes) -> bytes:
    return b"".join(pair.ours.seal(sequence, header(body), body))


def opened_by(cipher: Encryption, sequence: int, packet: bytes, first: int = 16) -> bytes | None:
    """Open ``packet`` on asyncssh's path, where ``first`` bytes of it show how long it is."""
    head, length = cipher.decrypt_header(sequence, packet[:first], 4)
    end = 4 + int.from_bytes(length, "big")
    return cipher.decrypt_packet(sequence, head, packet[first:end], 4, packet[end:])


# sealing and opening


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(EACH), st.binary(min_size=1, max_size=64), sequences, st.binary(min_size=1, max_size=600))
def test_a_packet_is_sealed_byte_for_byte_as_asyncssh_seals_it(
    name: bytes, seed: bytes, sequence: int, body: bytes
) -> None:
    pair = Pair(name, seed)

    assert sealed_by_us(pair, sequence, body) == sealed_by_asyncssh(pair, sequence, body)


@each
def test_sizes_and_sequence_numbers_at_their_edges_are_sealed_alike(name: bytes) -> None:
    pair = Pair(name)

    for sequence, size in product(EDGES, SIZES):
        body = bytes(range(256)) * (size // 256 + 1)
        assert sealed_by_us(pair, sequence, body[:size]) == sealed_by_asyncssh(pair, sequence, body[:size])


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(EACH),
    st.binary(min_size=1, max_size=64),
    sequences,
    st.binary(min_size=12, max_size=600),
    st.binary(max_size=40),
    st.binary(max_size=40),
)
def test_a_packet_of_asyncssh_is_opened_where_it_lies_among_others(
    name: bytes, seed: bytes, sequence: int, body: bytes, before: bytes, after: bytes
) -> None:
    pair = Pair(name, seed)
    packet = sealed_by_asyncssh(pair, sequence, body)
    received = memoryview(bytearray(before + packet + after))
    at, end = len(before), len(before) + len(packet)

    length = pair.ours.length(sequence, received, at)
    opened = pair.ours.open(sequence, received, at, end)

    assert (length, opened) == (len(body), body)
    assert type(opened) is bytes  # and no view of a buffer that the next read overwrites
    assert bytes(received) == before + packet + after


@each
@pytest.mark.parametrize("first", [8, 16])
def test_our_cipher_in_the_place_of_asyncsshs_seals_and_opens_as_it_does(name: bytes, first: int) -> None:
    sender, receiver = Pair(name), Pair(name)

    for sequence in EDGES:
        body = bytes([sequence & 0xFF]) * 64
        packet = sealed_by_asyncssh(sender, sequence, body)
        assert b"".join(sender.ours.encrypt_packet(sequence, header(body), body)) == packet
        assert opened_by(receiver.ours, sequence, packet, first) == body
        assert opened_by(receiver.theirs, sequence, packet, first) == body


@each
def test_both_of_our_ways_to_open_a_packet_count_the_same_packets(name: bytes) -> None:
    pair = Pair(name)
    opened = []

    for sequence in range(8):
        packet = sealed_by_asyncssh(pair, sequence, b"%032d" % sequence)
        if sequence % 2:
            opened.append(pair.ours.open(sequence, memoryview(packet), 0, len(packet)))
        else:
            opened.append(pair.ours.decrypt_packet(sequence, packet[:16], packet[16:-TAG], 4, packet[-TAG:]))

    assert opened == [b"%032d" % sequence for sequence in range(8)]


@each
def test_our_cipher_goes_on_where_asyncsshs_stands(name: bytes) -> None:
    """As after the packets that were held back during a key exchange: asyncssh's own cipher seals those."""
    pair = Pair(name)
    for sequence in range(3):
        sealed_by_asyncssh(pair, sequence, bytes(32))

    late = _lean(pair.theirs)
    assert isinstance(late, PacketCipher)

    assert b"".join(late.seal(3, header(bytes(32)), bytes(32))) == sealed_by_asyncssh(pair, 3, bytes(32))


def test_a_cipher_we_have_none_for_stays_asyncsshs() -> None:
    ctr = get_encryption(b"aes128-ctr", bytes(16), bytes(16), b"hmac-sha2-256", bytes(32))

    assert _lean(ctr) is ctr
    assert _lean(None) is None


def test_the_length_of_a_gcm_packet_is_sent_in_clear_and_that_of_chacha20_is_not() -> None:
    body = bytes(32)

    clear = [sealed_by_us(Pair(name), 5, body).startswith(header(body)) for name in EACH]

    assert clear == [True, True, False]


# the invocation counter of GCM


@pytest.mark.parametrize("name", [GCM_128, GCM_256], ids=bytes.decode)
@pytest.mark.parametrize("before", [0, 1, 2, 3])
@pytest.mark.parametrize("low", [0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF], ids=["32 bits", "64 bits"])
def test_the_invocation_counter_wraps_without_touching_the_fixed_field(name: bytes, before: int, low: int) -> None:
    iv = b"\xff\xfe\xfd\xfc" + (low - before).to_bytes(8, "big")
    pair, receiver = Pair(name, iv=iv), Pair(name, iv=iv)

    for sequence in range(6):
        packet = sealed_by_us(pair, sequence, bytes(48))
        assert packet == sealed_by_asyncssh(pair, sequence, bytes(48))
        assert receiver.ours.open(sequence, memoryview(packet), 0, len(packet)) == bytes(48)


def test_the_sequence_number_means_nothing_to_gcm_and_everything_to_chacha20() -> None:
    opened = []

    for name in EACH:
        pair = Pair(name)
        packet = sealed_by_asyncssh(pair, 5, bytes(32))
        opened.append(pair.ours.open(6, memoryview(packet), 0, len(packet)))

    assert opened == [bytes(32), bytes(32), None]


def test_the_count_of_packets_means_nothing_to_chacha20_and_everything_to_gcm() -> None:
    opened = []

    for name in EACH:
        pair = Pair(name)
        sealed_by_asyncssh(pair, 5, bytes(32))
        packet = sealed_by_asyncssh(pair, 5, bytes(32))
        opened.append(pair.ours.open(5, memoryview(packet), 0, len(packet)))

    assert opened == [None, None, bytes(32)]


# forgeries


@each
def test_a_packet_with_any_bit_flipped_is_not_opened(name: bytes) -> None:
    packet = sealed_by_asyncssh(Pair(name), 7, bytes(range(24)))

    for bit in range(len(packet) * 8):
        forged = bytearray(packet)
        forged[bit // 8] ^= 1 << bit % 8
        assert Pair(name).ours.open(7, memoryview(forged), 0, len(forged)) is None

    assert Pair(name).ours.open(7, memoryview(packet), 0, len(packet)) == bytes(range(24))


@each
@pytest.mark.parametrize("cut", [lambda p: p[:-1], lambda p: p + b"\0", lambda p: p[:20], lambda p: p[:4] + p[5:]])
def test_a_packet_of_another_length_is_not_opened(name: bytes, cut: Callable[[bytes], bytes]) -> None:
    packet = cut(sealed_by_asyncssh(Pair(name), 7, bytes(24)))

    assert Pair(name).ours.open(7, memoryview(packet), 0, len(packet)) is None


@each
def test_after_a_forged_packet_both_implementations_stand_at_the_same_place(name: bytes) -> None:
    sender, receiver = Pair(name), Pair(name)
    first, second = (sealed_by_asyncssh(sender, sequence, bytes(32)) for sequence in (0, 1))
    forged = first[:-1] + bytes([first[-1] ^ 1])

    ours = receiver.ours.open(0, memoryview(forged), 0, len(forged))
    theirs = opened_by(receiver.theirs, 0, forged)

    assert ours is theirs is None
    assert receiver.ours.open(1, memoryview(second), 0, len(second)) == bytes(32)
    assert opened_by(receiver.theirs, 1, second) == bytes(32)


@each
def test_another_key_opens_nothing(name: bytes) -> None:
    packet = sealed_by_asyncssh(Pair(name, b"k"), 0, bytes(32))

    assert Pair(name, b"other").ours.open(0, memoryview(packet), 0, len(packet)) is None


# published packets


def test_the_packet_of_the_chacha20_draft_is_sealed_and_opened() -> None:
    """Appendix A of draft-ietf-sshm-chacha20-poly1305."""
    key = bytes.fromhex("8bbff6855fc102338c373e73aac0c914f076a905b2444a32eecaffeae22becc5")
    length_key = bytes.fromhex("e9b7a7a5825a8249346ec1c28301cf394543fc7569887d76e168f37562ac0740")
    body = (
        bytes.fromhex("065e0000000000000038")
        + b"Lorem ipsum dolor sit amet, consectetur adipisicing elit"
        + bytes.fromhex("4e43e804dc6c")
    )
    sent = bytes.fromhex(
        "2c3ecce4a5bc05895bf07a7ba956b6c68829ac7c83b780b7000ecde745afc705bbc378ce03a280236b87b53bed583966"
        "2302b164b6286a48cd1e097138e3cb909b8b2b829dd18d2a35ff82d995349e855bf02c298ef775f2d1a7e8b8"
    )
    cipher = ChachaCipher(key, length_key)

    assert b"".join(cipher.seal(7, header(body), body)) == sent
    assert cipher.length(7, sent, 0) == 72
    assert cipher.open(7, memoryview(sent), 0, len(sent)) == body


CASE_4 = (
    "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
    "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091"
)
CASE_16 = (
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
)


@pytest.mark.parametrize(
    ("key", "cipher_text", "tag"),
    [
        (
            "feffe9928665731c6d6a8f9467308308",
            CASE_4,
            "5bc94fbc3221a5db94fae95ae7121a47",
        ),
        (
            "feffe9928665731c6d6a8f9467308308" * 2,
            CASE_16,
            "76fc6ece0f4e1768cddf8853bb2d551b",
        ),
    ],
    ids=["case 4", "case 16"],
)
def test_the_cases_of_the_specification_of_gcm_are_sealed(key: str, cipher_text: str, tag: str) -> None:
    """McGrew and Viega, The Galois/Counter Mode of Operation, appendix B; its associated data is longer than ours."""
    body = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
    head = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    cipher = GcmCipher(bytes.fromhex(key), bytes.fromhex("cafebabefacedbaddecaf888"))

    first, rest = cipher.seal(0, head, body)

    assert (first, rest.hex()) == (head, cipher_text + tag)
