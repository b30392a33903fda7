"""A DNS server, a time server and a CA's directory on loopback, as a program: names_and_time.py FOLDER

What they say is in ``FOLDER/says.json``, read at each question: ``names`` by name and type, ``offset`` in seconds that
the time is ahead; ``silent`` (DNS answers nothing), ``timeless`` (nor does the time server), ``liar`` (it answers
somebody else). The directory shows ``FOLDER/ca-server.crt``.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import sys
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

DNS_PORT, TIME_PORT, CA_PORT = 53, 123, 14000
EPOCH = 2_208_988_800  # seconds from 1900 to 1970


def says(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "says.json").read_text())
    return found


def name_answer(question: bytes, told: dict[str, Any]) -> bytes:
    asked = dns.message.from_wire(question)
    answer = dns.message.make_response(asked)
    answer.flags |= dns.flags.AA | dns.flags.RA
    [query] = asked.question
    name, kind = query.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(query.rdtype)
    names = told["names"]
    # RFC 4592: a wildcard stands for no name that is there, with whatever type
    records = names.get(name, names.get(f"*.{name.partition('.')[2]}"))
    if records is None:
        answer.set_rcode(dns.rcode.NXDOMAIN)
    elif kind in records:
        answer.answer.append(dns.rrset.from_text_list(query.name, 1, "IN", kind, records[kind]))
    return answer.to_wire()


def time_answer(question: bytes, told: dict[str, Any]) -> bytes:
    now = time.time() + told.get("offset", 0) + EPOCH
    stamp = struct.pack("!II", int(now) & 0xFFFFFFFF, int(now % 1 * 2**32))
    echo = bytes(8) if told.get("liar") else question[40:48]
    return bytes([0x24, 2, 0, 0]) + bytes(20) + echo + stamp + stamp


def serve(own: socket.socket, folder: Path, answer: Any, silent: str) -> None:
    while True:
        question, peer = own.recvfrom(4096)
        told = says(folder)
        if not told.get(silent):
            own.sendto(answer(question, told), peer)


class Directory(BaseHTTPRequestHandler):
    folder: Path

    def do_GET(self) -> None:
        body = b'{"newOrder": "https://127.0.0.1/order"}' if self.path == "/dir" else b"{}"
        self.send_response_only(200)
        self.send_header("Date", formatdate(time.time() + says(self.folder).get("offset", 0), usegmt=True))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        pass


def main(folder: Path) -> None:
    for port, answer, silent in ((DNS_PORT, name_answer, "silent"), (TIME_PORT, time_answer, "timeless")):
        own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        own.bind(("127.0.0.1", port))
        threading.Thread(target=serve, args=(own, folder, answer, silent), daemon=True).start()
    Directory.folder = folder
    with ThreadingHTTPServer(("127.0.0.1", CA_PORT), Directory) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "ca-server.crt", folder / "ca-server.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        print("ready", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
