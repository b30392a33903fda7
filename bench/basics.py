"""Small things that every part of the benchmark uses."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PY = sys.executable
# Each tunnel and the port of the origin behind it: files, websockets, uploads.
TUNNELS = {"web": 5000, "wsk": 5001, "upl": 5002}


def log(*words):
    print(time.strftime("%H:%M:%S"), *words, file=sys.stderr, flush=True)


def wait_port(port, seconds=15):
    end = time.time() + seconds
    while time.time() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"nothing listens on {port}")


def stop(proc, seconds=5):
    if proc and proc.poll() is None:
        proc.send_signal(signal.SIGTERM)
        try:
            proc.wait(seconds)
        except subprocess.TimeoutExpired:
            proc.kill()
            proc.wait()


def new_key(path):
    """A key pair without a passphrase; one that is there already is kept."""
    if not path.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return str(path)


def new_certificate(folder, *hosts):
    """(certificate, key) for the hosts and 127.0.0.1, ECDSA with P-256; those that are there already are kept."""
    certificate, key = folder / "tls.crt", folder / "tls.key"
    if not certificate.exists():
        names = ",".join(["IP:127.0.0.1", *(f"DNS:{host}" for host in hosts)])
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
        out = ["-subj", f"/CN={hosts[0]}", "-addext", f"subjectAltName={names}", "-out", certificate, "-keyout", key]
        subprocess.run(["openssl", "req", "-x509", *kind, *out], check=True, capture_output=True)
    return certificate, key


def sparse_file(path, size):
    """A file of zeros; read once, so that the first transfer of it finds it in memory like all others."""
    if not path.exists():
        with open(path, "wb") as f:
            f.truncate(size)
        with open(path, "rb", buffering=0) as f:
            while f.read(1 << 20):
                pass
    return path


def http_get(port, host, path="/", timeout=5.0):
    """(status, body) of one request on a fresh connection; status 0 when refused."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as s:
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            data = b""
            while chunk := s.recv(65536):
                data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split()[1]), body
    except (OSError, IndexError, ValueError):
        return 0, b""
