"""Our parsers against h11 and httptools: what we accept and what we pass on, they read as the same one message."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnel_server.adapters.proxy.body import body_reader, chunk, last_chunk
from tunnel_server.adapters.proxy.head import CHUNKED, END, UNTIL_CLOSE, BadMessage, parse_request, parse_response
from tunnel_server.adapters.proxy.write import framing, request_bytes, response_bytes

EXAMPLES = settings(max_examples=400, deadline=None)

lengths = st.sampled_from(["0", "5", " 5", "5 ", "+5", "-5", "5, 5", "0x5", "5;", "", "05", "9" * 30, "5\t"])
codings = st.sampled_from(["chunked", "Chunked", "chunked ", "gzip, chunked", "chunked, chunked", "identity", "x", ""])
hosts = st.sampled_from(["a", "a.test:80", "A.Test", "a b", "a/b", "", "[::1]:80", "u@h", "a,b", "a\tb"])
connections = st.sampled_from(["close", "keep-alive", "Close", "x-own", "close, x-own", "Upgrade", "host", "te", ", ,"])
free = st.tuples(
    st.sampled_from(["X-Own", "x-own", "Accept", "Cookie", "X_Own", "Trailer", "TE", "Keep-Alive", "X Y", "", "X:"]),
    st.text('ab \t,;="\\\x80\xff\x00\x0b\r\n', max_size=12),
)
field = st.one_of(
    st.tuples(st.sampled_from(["Content-Length", "content-length", "Content-Length "]), lengths),
    st.tuples(st.sampled_from(["Transfer-Encoding", "transfer-encoding", "Transfer_Encoding"]), codings),
    st.tuples(st.just("Host"), hosts),
    st.tuples(st.just("Connection"), connections),
    free,
)
ends = st.sampled_from(["\r\n"] * 12 + ["\n", "\r", "\r\r\n", "\r\n ", "\r\n\t"])
separators = st.sampled_from([": "] * 8 + [":", " :", ":\t", ""])


@st.composite
def blocks(draw: st.DrawFn, first: list[str]) -> bytes:
    """Return a head after its first line, mostly almost right."""
    lines = [*first, *(f"{name}{draw(separators)}{value}" for name, value in draw(st.lists(field, max_size=4)))]
    return "".join(line + draw(ends) for line in lines).encode("latin-1") + b"\r\n"


def requests() -> st.SearchStrategy[bytes]:
    target = st.sampled_from(["/", "/a?b=%20", "*", "http://a.test/", "HTTP://A.test:80/x", "a", "/\x80", "/ x", "//b"])
    line = st.builds(
        "{} {} HTTP/{}\r\n".format,
        st.sampled_from(["GET", "POST", "OPTIONS", "X-OWN", "get", "G{T", "CONNECT"]),
        target,
        st.sampled_from(["1.1"] * 6 + ["1.0", "2.0", "1.2", "01.1"]),
    )
    return st.builds(lambda line, block: line.encode("latin-1") + block, line, blocks(["Host: a.test"]))


class Read:
    """What a parser of llhttp saw."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_body(self, data: bytes) -> None:
        self.bodies.append(data)

    def on_message_complete(self) -> None:
        self.complete += 1


def by_h11(data: bytes) -> tuple[Any, bytes, bytes]:
    """Return h11's request, its body, and what it left unread."""
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(data)
    request, body = peer.next_event(), b""
    while isinstance(event := peer.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    return request, body, peer.trailing_data[0]


@EXAMPLES
@given(requests())
def test_a_request_we_accept_is_read_by_others_in_the_same_way(head: bytes) -> None:
    if head.find(END) + 4 != len(head):
        return  # the relay would have cut it elsewhere
    try:
        ours = parse_request(head, 100)
    except BadMessage:
        return
    if ours.length > 9999:
        return
    payload = b"hello" if ours.length == CHUNKED else bytes(ours.length)
    body = chunk(payload) + last_chunk([]) if ours.length == CHUNKED else payload

    for message in (head, request_bytes(ours, ours.path, b"")):
        request, seen, left = by_h11(message + body + b"NEXT")
        assert (seen, left) == (payload, b"NEXT")
        assert request.method == ours.method
        assert dict(request.headers).get(b"host", b"") == ours.host

        read = Read()
        parser = httptools.HttpRequestParser(read)
        try:
            parser.feed_data(message + body)
        except httptools.HttpParserError:
            continue  # it knows a fixed list of methods, and no field names with odd characters
        assert (b"".join(read.bodies), read.complete) == (payload, 1)
        assert parser.get_method() == ours.method


@EXAMPLES
@given(requests())
def test_what_we_pass_on_names_no_connection_and_one_framing(head: bytes) -> None:
    try:
        ours = parse_request(head, 100)
    except BadMessage:
        return
    names = [line.partition(b":")[0].lower() for line in request_bytes(ours, ours.path, b"").split(b"\r\n")[1:-2]]

    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    assert names.count(b"host") <= 1
    assert not {b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"te"} & set(names)


@EXAMPLES
@given(
    st.sampled_from([200, 204, 304, 404, 500]),
    st.sampled_from([b"GET", b"HEAD", b"POST"]),
    st.sampled_from([0, 1]),
    blocks([]),
)
def test_an_answer_we_accept_is_read_by_others_in_the_same_way(
    status: int, method: bytes, minor: int, block: bytes
) -> None:
    if (b"\r\n" + block).find(END) + 2 != len(block):
        return
    request = parse_request(b"%b / HTTP/1.%d\r\nHost: a\r\n\r\n" % (method, minor), 100)
    try:
        ours = parse_response(b"HTTP/1.1 %d Fine\r\n%b" % (status, block), 100)
    except BadMessage:
        return
    how, _ = framing(request, ours)
    silent = method == b"HEAD" or status in (204, 304)
    if ours.length > 9999:
        return
    payload = b"" if silent else b"hello" if ours.length in (CHUNKED, UNTIL_CLOSE) else bytes(ours.length)
    sent = chunk(payload) + last_chunk([]) if how.name == "CHUNKED" else payload

    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method=method, target=b"/", headers=[(b"host", b"a")]))
    peer.send(h11.EndOfMessage())
    peer.receive_data(response_bytes(request, ours, how, True, b"") + sent)
    if how.name == "CLOSE":
        peer.receive_data(b"")
    answer, body = peer.next_event(), b""
    while isinstance(event := peer.next_event(), h11.Data):
        body += bytes(event.data)

    assert isinstance(answer, h11.Response)
    assert isinstance(event, h11.EndOfMessage)
    assert (answer.status_code, body) == (status, payload)


extensions = st.sampled_from([b"", b";a", b";a=b", b' ;a="b"'])
trailers = st.lists(st.sampled_from([b"X-Sum: 1\r\n", b"X-Other:  2 \r\n"]), max_size=2)


@EXAMPLES
@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=40), extensions), max_size=6),
    trailers,
    st.lists(st.integers(0, 400), max_size=12),
)
def test_a_chunked_body_is_the_same_however_it_is_split(
    pieces: list[tuple[bytes, bytes]], trailer: list[bytes], cuts: list[int]
) -> None:
    framed = b"".join(b"%X%b\r\n%b\r\n" % (len(piece), extension, piece) for piece, extension in pieces)
    framed += b"0\r\n" + b"".join(trailer) + b"\r\n"
    stream = framed + b"NEXT"
    marks = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    reader, payload, read = body_reader(CHUNKED), b"", 0

    for start, stop in pairwise(marks):
        if reader.done:
            break
        part, at = reader.feed(stream[start:stop], 0)
        payload += part
        read = start + at

    assert reader.done
    assert (payload, stream[read:]) == (b"".join(piece for piece, _ in pieces), b"NEXT")
    assert len(reader.trailers) == len(trailer)


@EXAMPLES
@given(st.binary(max_size=60), st.integers(1, 20))
def test_garbage_for_a_chunked_body_is_refused_or_waited_on(garbage: bytes, step: int) -> None:
    reader, payload = body_reader(CHUNKED), b""
    try:
        for at in range(0, len(garbage), step):
            part, _ = reader.feed(garbage[at : at + step], 0)
            payload += part
            if reader.done:
                break
    except BadMessage:
        pass
    assert len(payload) < len(garbage) or not garbage


@pytest.mark.parametrize("size", ["-1", "+5", "0x5", "5 ", " 5", "", "5_0", "1" * 16, "g", "5;\x01"])
def test_a_chunk_size_others_might_read_differently_is_refused(size: str) -> None:
    with pytest.raises(BadMessage):
        body_reader(CHUNKED).feed(f"{size}\r\n".encode() + b"a" * 32, 0)


@pytest.mark.parametrize("endless", [b"5" + b";a" * 600, b"0\r\n" + b"X: y\r\n" * 4000])
def test_framing_that_does_not_end_is_refused(endless: bytes) -> None:
    reader = body_reader(CHUNKED)

    def feed() -> None:
        for at in range(0, len(endless), 100):
            reader.feed(endless[at : at + 100], 0)

    with pytest.raises(BadMessage, match="too long"):
        feed()
