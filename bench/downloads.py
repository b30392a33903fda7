"""Downloads of one file over and over on kept connections, until the input ends.

  downloads.py PORT HOST PATH COUNT

Prints a line when all have begun; answers each line of input with the octets that have arrived, and the time.
"""

import json
import os
import socket
import sys
import threading
import time

port, host, path, count = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
REQUEST = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
arrived = [0] * count
failed = []


def head(s):
    """(octets of the body that came with the head, octets of the whole body)."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = s.recv(65536)
        if not chunk:
            raise ConnectionError("closed before the head was complete")
        data += chunk
    text, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b":", 1) for line in text.split(b"\r\n")[1:])
    if b" 200 " not in text.split(b"\r\n")[0]:
        raise ConnectionError(text[:80].decode("latin1"))
    return len(body), int(fields[b"content-length"])


def download(i):
    buffer = bytearray(1 << 20)
    try:
        with socket.create_connection(("127.0.0.1", port)) as s:
            while True:
                s.sendall(REQUEST)
                got, size = head(s)
                arrived[i] += got
                while got < size:
                    n = s.recv_into(buffer, min(len(buffer), size - got))
                    if not n:
                        raise ConnectionError("closed in the middle")
                    got += n
                    arrived[i] += n
    except Exception as e:
        failed.append(repr(e))


def say():
    print(json.dumps({"bytes": sum(arrived), "time": time.perf_counter(), "failed": failed}), flush=True)


for i in range(count):
    threading.Thread(target=download, args=(i,), daemon=True).start()
while not all(arrived) and not failed:
    time.sleep(0.01)
say()
for _ in sys.stdin:
    say()
os._exit(0)  # without waiting for downloads that are under way
