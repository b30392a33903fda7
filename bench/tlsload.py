"""One TLS handshake after another, each on a connection of its own, none resumed.

  tlsload.py PORT HOST 1.2|1.3

Answers each line "SECONDS" with one JSON line: how many handshakes ended well in that time, and how long they took.

A TLS library's client costs more than the server it is to measure: with OpenSSL 3.0 twice as much as nginx. So this one
does what a server cannot do without, and no more: one private key for all connections, no look at the certificate, no
proof of the server's signature. X25519, AES-128-GCM and SHA-256 only. A handshake counts once the server has taken our
Finished: it answers ours with its own (TLS 1.2), or ends the connection without an alert (TLS 1.3).
"""

import collections
import hashlib
import hmac
import json
import os
import socket
import struct
import sys
import time

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PATIENCE = 10  # seconds that the server may take for one step

CHANGE_CIPHER, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23  # records
SERVER_HELLO, KEY_EXCHANGE, HELLO_DONE, FINISHED = 2, 12, 14, 20  # handshake messages
CLOSE_NOTIFY = b"\1\0"

PRIVATE = X25519PrivateKey.generate()
PUBLIC = PRIVATE.public_key().public_bytes_raw()


def vector(width, data):
    return len(data).to_bytes(width, "big") + data


def extension(kind, data):
    return struct.pack(">H", kind) + vector(2, data)


def message(kind, data):
    return bytes([kind]) + vector(3, data)


def record(kind, data):
    return bytes([kind]) + b"\3\3" + vector(2, data)


def client_hello(host, version, random):
    extensions = [
        extension(0, vector(2, b"\0" + vector(2, host.encode()))),  # server name
        extension(10, vector(2, b"\0\x1d\0\x17")),  # groups: X25519; P-256, for the certificate (RFC 8422 §5.1)
        extension(13, vector(2, b"\4\3\x08\4")),  # signatures: ECDSA with P-256, RSA-PSS
        extension(16, vector(2, vector(1, b"http/1.1"))),
    ]
    if version == "1.3":
        suite = b"\x13\1"
        extensions += [extension(43, vector(1, b"\3\4")), extension(51, vector(2, b"\0\x1d" + vector(2, PUBLIC)))]
    else:
        suite = b"\xc0\x2b"
        extensions += [extension(11, vector(1, b"\0")), extension(23, b""), extension(0xFF01, b"\0")]
    fixed = b"\3\3" + random + vector(1, b"") + vector(2, suite) + vector(1, b"\0")
    return message(1, fixed + vector(2, b"".join(extensions)))


class Failed(Exception):
    pass


class Peer:
    """The server's records and handshake messages, in order."""

    def __init__(self, port):
        self.socket = socket.socket()
        # A time limit of Python's would look at the socket before each read.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", PATIENCE, 0))
        self.socket.connect(("127.0.0.1", port))
        self.buffer = b""
        self.messages = collections.deque()
        self.part = b""

    def record(self):
        """(type, head, payload) of the next record; None at the end."""
        while len(self.buffer) < 5 or len(self.buffer) < 5 + int.from_bytes(self.buffer[3:5], "big"):
            chunk = self.socket.recv(65536)
            if not chunk:
                return None
            self.buffer += chunk
        end = 5 + int.from_bytes(self.buffer[3:5], "big")
        head, payload, self.buffer = self.buffer[:5], self.buffer[5:end], self.buffer[end:]
        return head[0], head, payload

    def message(self, open_record=None):
        """The next handshake message, head included."""
        while len(self.part) < 4 or len(self.part) < 4 + int.from_bytes(self.part[1:4], "big"):
            got = self.record()
            if got is None:
                raise Failed("closed")
            kind, head, payload = got
            if open_record and kind == DATA:
                kind, payload = open_record(head, payload)
            if kind == HANDSHAKE:
                self.part += payload
            elif kind != CHANGE_CIPHER:
                raise Failed(f"record {kind} {payload[:2].hex()}")
        end = 4 + int.from_bytes(self.part[1:4], "big")
        got, self.part = self.part[:end], self.part[end:]
        return got


def shared_secret(public):
    return PRIVATE.exchange(X25519PublicKey.from_public_bytes(public))


def digest(key, data):
    return hmac.digest(key, data, "sha256")


# TLS 1.3, RFC 8446


def expand(secret, label, context=b"", size=32):
    """HKDF-Expand-Label, §7.1."""
    info = struct.pack(">H", size) + vector(1, b"tls13 " + label) + vector(1, context) + b"\1"
    return digest(secret, info)[:size]


NOTHING = hashlib.sha256().digest()
EARLY = expand(digest(bytes(32), bytes(32)), b"derived", NOTHING)


class Direction:
    """The records of one side under one traffic secret, §5.2."""

    def __init__(self, secret):
        self.aead = AESGCM(expand(secret, b"key", size=16))
        self.iv = int.from_bytes(expand(secret, b"iv", size=12), "big")
        self.count = 0

    def nonce(self):
        nonce = (self.iv ^ self.count).to_bytes(12, "big")
        self.count += 1
        return nonce

    def seal(self, kind, data):
        inner = data + bytes([kind])
        head = b"\x17\3\3" + struct.pack(">H", len(inner) + 16)
        return head + self.aead.encrypt(self.nonce(), inner, head)

    def open(self, head, payload):
        inner = self.aead.decrypt(self.nonce(), payload, head).rstrip(b"\0")
        return inner[-1], inner[:-1]


def key_share(server_hello):
    """The server's public key: the extension's last 32 octets, wherever it stands."""
    at = 4 + 2 + 32
    at += 1 + server_hello[at] + 2 + 1 + 2
    while at < len(server_hello):
        kind, size = struct.unpack_from(">HH", server_hello, at)
        at += 4 + size
        if kind == 51:
            return server_hello[at - 32 : at]
    raise Failed("no key share")


def tls_1_3(peer, hello):
    peer.socket.sendall(record(HANDSHAKE, hello))
    answer = peer.message()
    if answer[0] != SERVER_HELLO:
        raise Failed(f"message {answer[0]}")
    transcript = hashlib.sha256(hello + answer)
    secret = digest(EARLY, shared_secret(key_share(answer)))
    so_far = transcript.digest()
    ours, theirs = (expand(secret, side + b" hs traffic", so_far) for side in (b"c", b"s"))
    from_server = Direction(theirs)
    last = b"\0"
    while last[0] != FINISHED:
        last = peer.message(from_server.open)
        transcript.update(last)
    so_far = transcript.digest()
    master = digest(expand(secret, b"derived", NOTHING), bytes(32))
    to_server = Direction(expand(master, b"c ap traffic", so_far))
    proof = message(FINISHED, digest(expand(ours, b"finished"), so_far))
    peer.socket.sendall(Direction(ours).seal(HANDSHAKE, proof) + to_server.seal(ALERT, CLOSE_NOTIFY))
    from_server = None
    while got := peer.record():
        from_server = from_server or Direction(expand(master, b"s ap traffic", so_far))
        kind, data = from_server.open(*got[1:])
        if kind != HANDSHAKE and data != CLOSE_NOTIFY:  # a ticket, or the end
            raise Failed(f"record {kind} {data[:2].hex()}")


# TLS 1.2, RFC 5246, with RFC 5288 and RFC 7627


def prf(secret, label, seed, size):
    """P_SHA256, §5."""
    out, a = b"", label + seed
    seed = label + seed
    while len(out) < size:
        a = digest(secret, a)
        out += digest(secret, a + seed)
    return out[:size]


def tls_1_2(peer, hello):
    peer.socket.sendall(record(HANDSHAKE, hello))
    transcript = hashlib.sha256(hello)
    got = b"\0"
    while got[0] != HELLO_DONE:
        got = peer.message()
        transcript.update(got)
        if got[0] == SERVER_HELLO:
            server_random = got[6:38]
        elif got[0] == KEY_EXCHANGE:
            public = got[8 : 8 + got[7]]
    exchange = message(16, vector(1, PUBLIC))
    transcript.update(exchange)
    so_far = transcript.digest()
    master = prf(shared_secret(public), b"extended master secret", so_far, 48)
    keys = prf(master, b"key expansion", server_random + hello[6:38], 40)
    proof = message(FINISHED, prf(master, b"client finished", so_far, 12))
    sealed = AESGCM(keys[:16]).encrypt(keys[32:36] + bytes(8), proof, bytes(8) + b"\x16\3\3" + struct.pack(">H", 16))
    change = record(CHANGE_CIPHER, b"\1")
    peer.socket.sendall(record(HANDSHAKE, exchange) + change + record(HANDSHAKE, bytes(8) + sealed))
    while (got := peer.record()) and got[0] == HANDSHAKE and got[2][0] == 4:  # a ticket
        pass
    if got is None or got[0] != CHANGE_CIPHER:
        raise Failed("no Finished")
    if not (got := peer.record()) or got[0] != HANDSHAKE:
        raise Failed("no Finished")


HANDSHAKES = {"1.2": tls_1_2, "1.3": tls_1_3}


def run(port, handshake, hello, seconds):
    times, errors, first = [], 0, None
    now = time.perf_counter()
    end = now + seconds
    while now < end:
        begun = now
        try:
            peer = Peer(port)
            with peer.socket:
                handshake(peer, hello)
            times.append(time.perf_counter() - begun)
        except (OSError, Failed) as e:
            errors += 1
            first = first or repr(e)
        now = time.perf_counter()
    return {"times_ms": [round(t * 1e3, 3) for t in times], "errors": errors, "first_error": first}


def main():
    port, host, version = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    hello = client_hello(host, version, os.urandom(32))
    for line in sys.stdin:
        print(json.dumps(run(port, HANDSHAKES[version], hello, float(line))), flush=True)


if __name__ == "__main__":
    main()
