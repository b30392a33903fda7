"""Who meets in a private network, each in a container of its own: the server, OpenSSH clients, an app, a visitor."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from containers import NAME, RUN, docker, wait_until
from rig import need
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

HOST = "tunnels.test"
URL = f"http://{HOST}:3000"
APP = Path(__file__).parent / "integration" / "containers" / "app.py"
LIMIT = 30.0  # seconds that a command in a container may take
CURL = ("curl", "-sS", "--max-time", "15", "--connect-to", f"::{HOST}:", "-w", "\n%{http_code} %{http_version}")
SSH = (
    "ssh", "-F", "none", "-i", "/key", "-o", "IdentitiesOnly=yes", "-o", "UserKnownHostsFile=/known_hosts",
    "-o", "StrictHostKeyChecking=accept-new", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=5",
    "-o", "ServerAliveInterval=3",
)  # fmt: skip
SERVER = ("-p", "2222", HOST)
FOREVER = ("sh", "-c", 'while :; do "$@"; sleep 0.2; done', "forever")


class Peer:
    """A running container."""

    def __init__(self, id: str) -> None:
        self.id = id

    def tried(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it, whether it succeeds or not."""
        words = (need("docker"), "exec", self.id, *words)
        return subprocess.run(words, capture_output=True, text=True, timeout=LIMIT)

    def run(self, *words: str) -> str:
        """Return what a command in it prints; it has to succeed."""
        return docker("exec", self.id, *words, limit=LIMIT)

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command in it until the block ends; what it prints is to be read."""
        with subprocess.Popen([need("docker"), "exec", self.id, *words], stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    @property
    def log(self) -> str:
        """All that it printed."""
        words = [need("docker"), "logs", self.id]
        return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT).stdout

    @property
    def state(self) -> dict[str, Any]:
        """What the engine says of it."""
        found: dict[str, Any] = json.loads(docker("inspect", "-f", "{{json .State}}", self.id))
        return found


class Server(Peer):
    """The server."""

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of its log with this event."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def started(self) -> Self:
        """Wait until it serves; one that ended instead fails with what it said."""

        def serves() -> bool:
            assert self.state["Running"], self.log
            return bool(self.events("server.started"))

        wait_until(serves, "a server that serves")
        return self

    def stop(self) -> int:
        """Have the engine stop it, and return its exit status."""
        docker("stop", "-t", "30", self.id)
        return self.ended()

    def ended(self) -> int:
        """Wait until it has ended by itself, and return its exit status."""
        wait_until(lambda: not self.state["Running"], "a server that ended")
        return int(self.state["ExitCode"])


class Client(Peer):
    """An OpenSSH client that logs in again and again."""

    def url(self, hellos: int = 1) -> str:
        """Return the URL of its tunnel, from when it had one for the first time, or a later one."""

        def told() -> list[str]:
            answers = [json.loads(line)["tunnels"] for line in self.log.splitlines() if line.startswith("{")]
            return [url for tunnels in answers for url in tunnels.values()][hellos - 1 :]

        found: str = wait_until(told, f"a client that had a tunnel {hellos} times")[0]
        return found


@dataclass(frozen=True)
class Answer:
    """What a visitor got; status 0 is no answer."""

    status: int
    version: str
    body: str


class Visitor(Peer):
    """Who has curl."""

    def get(self, url: str, *options: str) -> Answer:
        """Ask the server for a URL, whatever its host."""
        body, _, about = self.tried(*CURL, *options, url).stdout.rpartition("\n")
        status, version = about.split()
        return Answer(int(status), version, body)


Kind = TypeVar("Kind", bound=Peer)


def publish(name: str, *options: str) -> list[str]:
    """Return the command that publishes the app; ``options`` say how to the server, if not by its SSH port."""
    return [*SSH, "-R", f"/{name}:app:5000", *(options or SERVER), "hello"]


class PrivateNetwork:
    """A network without a way out; its containers end with ``stack``."""

    def __init__(self, image: str, peer_image: str, stack: ExitStack) -> None:
        self._image, self._peer_image, self._stack = image, peer_image, stack
        options = {"internal": True, "labels": {NAME: RUN}}
        self._network = stack.enter_context(Network(docker_network_kw=options))

    def server(self, image: str = "", environ: dict[str, str] | None = None, **options: Any) -> Server:
        """Start a server that has its host's name; ``options`` are those of the engine."""
        options["env"] = {"BASE_URL": URL} | (environ or {})
        return self._start(Server, image or self._image, HOST, **options)

    def app(self) -> Peer:
        """Start what the tunnels lead to."""
        return self._start(Peer, self._peer_image, "app", command=["python3", "-c", APP.read_text()])

    def visitor(self, **files: bytes) -> Visitor:
        """Start a visitor with these files."""
        return self._start(Visitor, self._peer_image, "visitor", files, command=["sleep", "infinity"])

    def client(self, key: bytes, *options: str, **files: bytes) -> Client:
        """Start an OpenSSH client that publishes the app as ``web``; of servers it trusts the first, and no other."""
        command = [*FOREVER, *publish("web", *options)]
        return self._start(Client, self._peer_image, "client", {"key": key} | files, command=command)

    def cut(self, peer: Peer) -> None:
        """Take a container out of the network; nobody is told."""
        docker("network", "disconnect", self._network.name, peer.id)

    def _start(
        self, kind: type[Kind], image: str, name: str, files: dict[str, bytes] | None = None, **options: Any
    ) -> Kind:
        """Start a container that others reach by this name; ``files`` are put into its root for itself alone."""
        container = DockerContainer(
            image,
            network=self._network,
            network_aliases=[name],
            transferables=[(content, f"/{file}", 0o600) for file, content in (files or {}).items()],
            labels={NAME: RUN},
            dns_opt=["timeout:1", "attempts:1"],  # there is no way out to ask for names that nobody here has
            **options,
        )
        return kind(self._stack.enter_context(container).get_container_id())
