"""What policies cost: the server's CPU for a small request, to a public tunnel and to a private one with a session.

    python bench/policies.py [--pairs 9] [--against TREE]

Measures in pairs, one after the other on the same server, 64 connections over a real ssh client, and prints the median of
the differences. With --against, a checkout of another commit is measured beside this one, public tunnels only: the median
of the ratios says what hooks cost that nobody implements. Needs h2load, an OpenSSH client, and this project's `dev` extra.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import OKPKey

from tunnel_server import Thumbprint

HERE = Path(__file__).resolve().parent.parent
REQUESTS, CONNECTIONS = 20_000, 64
PRIVATE = "/secret#access=private"
SERVICE = """
import asyncio, sys
class Hello(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data):
        for _ in range(data.count(b"\\r\\n\\r\\n")):
            self.transport.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello")
async def main():
    server = await asyncio.get_running_loop().create_server(Hello, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(main())
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Server:
    """A server of one checkout, with a service behind a client's two tunnels."""

    def __init__(self, tree: Path, stack: ExitStack) -> None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.port, ssh, metrics, service = (free_port() for _ in range(4))
        settings = {
            "BASE_URL": f"http://local.test:{self.port}",
            "PORT": str(self.port),
            "SSH_PORT": str(ssh),
            "METRICS_PORT": str(metrics),
            "SSH_HOST_KEY_PATH": str(folder / "host_key"),
            "TUNNEL_SERVER_LISTEN_HOST": "127.0.0.1",
            "TUNNEL_SERVER_METRICS_HOST": "127.0.0.1",
        }
        self.process = self._start(stack, [sys.executable, "-m", "tunnel_server", "run"], tree, settings)
        self._start(stack, [sys.executable, "-c", SERVICE, str(service)], tree, {})
        self.key = folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        while socket.socket().connect_ex(("127.0.0.1", ssh)):
            time.sleep(0.05)
        quiet = ["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        forwards = [word for name in ("/web", PRIVATE) for word in ("-R", f"{name}:127.0.0.1:{service}")]
        command = ["ssh", *quiet, "-o", "IdentitiesOnly=yes", "-i", str(self.key), "-p", str(ssh), *forwards]
        client = self._start(stack, [*command, "env@127.0.0.1", "hello"], tree, {})
        assert client.stdout is not None
        self.urls: dict[str, str] = json.loads(client.stdout.readline())["tunnels"]

    @staticmethod
    def _start(stack: ExitStack, command: list[str], tree: Path, more: dict[str, str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command, cwd=tree, env=os.environ | more, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        return process

    def cost(self, name: str, *fields: str) -> float:
        """Return the server's CPU for a request to a tunnel, in microseconds."""
        before = self._cpu()
        options = ["-c", str(CONNECTIONS), "-n", str(REQUESTS), f"--connect-to=127.0.0.1:{self.port}"]
        more = [word for field in fields for word in ("-H", field)]
        command = ["h2load", "--h1", *options, *more, self.urls[name]]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert f"{REQUESTS} 2xx" in said, said
        return (self._cpu() - before) / REQUESTS * 1e6

    def _cpu(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def session(self) -> str:
        """Sign in as the client's own key; return the cookie."""
        blob = base64.b64decode(self.key.with_suffix(".pub").read_text().split()[1])
        from cryptography.hazmat.primitives.serialization import load_ssh_private_key

        private = OKPKey.import_key(load_ssh_private_key(self.key.read_bytes(), None))
        claims = {"iss": f"preevy://{Thumbprint.from_public_key(blob)}", "exp": int(time.time()) + 3600}
        token = jwt.encode({"alg": "Ed25519"}, claims, private, algorithms=["Ed25519"])
        label = self.urls[PRIVATE].split("/")[2].partition(".")[0]
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        headers = {"Host": "auth.local.test", "Authorization": f"Bearer {token}"}
        connection.request("GET", f"/login?env={label}&returnPath=/", headers=headers)
        return str(connection.getresponse().getheader("Set-Cookie")).partition(";")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--against", type=Path)
    options = parser.parse_args()
    with ExitStack() as stack:
        ours = Server(HERE, stack)
        if options.against:
            theirs = Server(options.against, stack)
            pairs = [(ours.cost("/web"), theirs.cost("/web")) for _ in range(options.pairs + 1)][1:]
            print(f"ratio of CPU a request: {statistics.median(a / b for a, b in pairs):.3f}")
            return
        cookie = f"Cookie: {ours.session()}"
        pairs = [(ours.cost("/web", cookie), ours.cost(PRIVATE, cookie)) for _ in range(options.pairs + 1)][1:]
        for public, private in pairs:
            print(f"public {public:.1f} us, private with a session {private:.1f} us")
        print(f"more for the private one: {statistics.median(b - a for a, b in pairs):.1f} us a request")


if __name__ == "__main__":
    main()
