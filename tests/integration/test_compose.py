"""The compose files: read without a complaint, and what they start serves, plainly, with certificates, and watched."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import combinations
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import yaml
from certs import make_pair
from containers import NAME, ROOT, RUN, docker, published, wait_until
from rig import LIMIT, need

from tunnel_server import ClientId
from tunnel_server.app.settings import Settings

COMPOSE = ROOT / "deploy" / "compose"
PLAIN, TLS, WATCHED = "compose.yaml", "compose.tls.yaml", "compose.monitoring.yaml"
FILES = [[PLAIN, *more] for count in range(3) for more in combinations((TLS, WATCHED), count)]
HOST = "tunnels.test"
TIME = 120.0  # seconds that a command of compose may take


class Project:
    """A copy of the files with an .env of its own, run under a name that nobody else has."""

    def __init__(self, folder: Path, **environment: str) -> None:
        shutil.copytree(ROOT / "deploy", folder / "deploy")
        self.folder = folder / "deploy" / "compose"
        self.name = f"{NAME}-{uuid.uuid4().hex[:8]}"
        self._environment = {name: value for name, value in os.environ.items() if name not in variables(ENV)}
        lines = [f"{name}={value}" for name, value in environment.items()]
        example = (self.folder / ".env.example").read_text().replace("BASE_URL=", "#BASE_URL=")
        (self.folder / ".env").write_text("\n".join([example, f"COMPOSE_PROJECT_NAME={self.name}", *lines, ""]))

    def run(self, *words: str, program: tuple[str, ...] = ("docker-compose",)) -> subprocess.CompletedProcess[str]:
        """Return what compose said, however it ended."""
        command = [need(program[0]), *program[1:], *words]
        return subprocess.run(
            command, cwd=self.folder, env=self._environment, capture_output=True, text=True, timeout=TIME
        )

    def must(self, *words: str) -> str:
        """Return what compose printed; it has to succeed."""
        done = self.run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def shell(self, line: str) -> None:
        """Run a line of the page, which names the plugin of Docker."""
        line = line.replace("docker compose", need("docker-compose"))
        subprocess.run(["sh", "-ec", line], cwd=self.folder, env=self._environment, check=True, timeout=TIME)

    def override(self, content: dict[str, Any]) -> str:
        """Add a file for tests to those that are combined; return its name."""
        (self.folder / "test.yaml").write_text(yaml.safe_dump(content))
        return "test.yaml"

    @contextmanager
    def up(self, *services: str) -> Iterator[Callable[[str], str]]:
        """Start services; gives what finds their containers. Afterwards nothing is left, also after a failure."""
        try:
            self.must("up", "-d", "--no-build", *services)
            yield lambda service: self.must("ps", "-q", service).strip()
        except BaseException:
            print(self.run("logs", "--no-color", "--tail", "50").stdout)
            raise
        finally:
            self.must("down", "-v", "-t", "5", "--remove-orphans")


ENV = (COMPOSE / ".env.example").read_text()


def typed(having: str) -> str:
    """Return the one line to type of the page that has these words."""
    [line] = [
        line for line in (COMPOSE / "README.md").read_text().splitlines() if line[:4] == "    " and having in line
    ]
    return line.strip()


def variables(env: str) -> set[str]:
    """Return the variables that an .env sets or shows."""
    return set(re.findall(r"(?m)^#?([A-Z_]+)=", env))


def labelled(*volumes: str) -> dict[str, Any]:
    """Return an override that labels all that is made, for the fixture that removes what a killed run left."""
    labels = {"labels": {NAME: RUN}}
    return {
        "services": {"server": dict(labels)},
        "networks": {"default": dict(labels)},
        "volumes": {volume: dict(labels) for volume in volumes},
    }


# what is written


@pytest.mark.parametrize("files", FILES, ids="+".join)
def test_compose_reads_the_files_without_a_word(tmp_path: Path, files: list[str]) -> None:
    """By the docker-compose of Debian 12, and by the plugin of Docker where there is one."""
    programs = [("docker-compose",)]
    if shutil.which("docker") and not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        programs.append(("docker", "compose"))
    project = Project(tmp_path, BASE_URL=f"https://{HOST}", COMPOSE_FILE=":".join(files))

    for program in programs:
        done = project.run("config", "-q", program=program)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), program


@pytest.fixture
def all_services(tmp_path: Path) -> dict[str, Any]:
    """All services, as compose understands all files together with what they say by themselves."""
    project = Project(tmp_path, BASE_URL=f"https://{HOST}", COMPOSE_FILE=":".join(FILES[-1]))
    services: dict[str, Any] = yaml.safe_load(project.must("config"))["services"]
    return services


def test_every_service_is_bounded_and_guarded(all_services: dict[str, Any]) -> None:
    assert all_services.keys() == {"server", "prometheus", "grafana"}
    for service in all_services.values():
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
        assert service["mem_limit"] and service["pids_limit"] and service["restart"] == "unless-stopped"
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert all_services["server"]["read_only"] and all_services["prometheus"]["read_only"]


def test_only_what_is_for_the_world_is_published_to_it(all_services: dict[str, Any]) -> None:
    public, private = all_services.pop("server")["ports"], [one for s in all_services.values() for one in s["ports"]]

    assert sorted(port["target"] for port in public) == [2222, 3000, 8443]
    assert len(private) == 2 and all("127.0.0.1" in str(port) for port in private)


def test_a_stop_waits_longer_than_the_server_needs(all_services: dict[str, Any]) -> None:
    assert float(all_services["server"]["stop_grace_period"].removesuffix("s")) > Settings().grace_period + 5


def test_every_variable_is_explained_in_the_example_and_does_something() -> None:
    used = set()
    for name in (PLAIN, TLS, WATCHED):
        used |= set(re.findall(r"\$\{([A-Z_]+)", (COMPOSE / name).read_text()))
    settings = set(re.findall(r"`([A-Z_]+)`", (ROOT / "docs" / "reference" / "settings.md").read_text()))

    assert used <= variables(ENV)
    assert variables(ENV) <= used | settings | {"COMPOSE_FILE", "COMPOSE_PROJECT_NAME"}


def test_defaults_in_the_example_are_those_of_the_files() -> None:
    shown = dict(re.findall(r"(?m)^#?([A-Z_]+)=(.*)$", ENV))
    for name in (PLAIN, TLS, WATCHED):
        for variable, default in re.findall(r"\$\{([A-Z_]+):?-([^}]*)\}", (COMPOSE / name).read_text()):
            assert shown[variable] == default, variable


# what is started


class Hello(BaseHTTPRequestHandler):
    """The app behind the tunnel."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def app() -> Iterator[int]:
    """The port of an app on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(LIMIT)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """An SSH key's file."""
    path = tmp_path / "id"
    path.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    path.chmod(0o600)
    return path


@contextmanager
def tunnel(key: Path, port: int, app: int) -> Iterator[dict[str, Any]]:
    """Publish the app with OpenSSH; gives what the server says of it."""
    client = subprocess.Popen(
        [
            need("ssh"), "-F", "none", "-i", str(key), "-p", str(port), "-o", "StrictHostKeyChecking=no",
            "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
            "-o", "LogLevel=ERROR", "-R", f"/web:127.0.0.1:{app}", "env@127.0.0.1", "hello",
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert client.stdout is not None
        said: dict[str, Any] = json.loads(client.stdout.readline())
        yield said
    finally:
        client.terminate()
        client.communicate(timeout=LIMIT)


def curl(*words: str) -> str:
    return subprocess.run([need("curl"), "-s", *words], capture_output=True, text=True, timeout=LIMIT).stdout


def serves(container: str, url: str) -> None:
    """Wait until the server says that it is ready; its health check takes its time to look."""

    def ready() -> bool:
        return curl("--connect-to", f"::127.0.0.1:{published(container, 3000)}", f"{url}/readyz") == "ready"

    wait_until(ready, "ready")


def test_the_plain_file_serves_a_tunnel(image: str, tmp_path: Path, key: Path, app: int) -> None:
    project = Project(
        tmp_path,
        BASE_URL=f"http://{HOST}:3000",
        IMAGE=image,
        PUBLISH_HTTP="127.0.0.1:",
        PUBLISH_SSH="127.0.0.1:",
        COMPOSE_FILE=f"{PLAIN}:test.yaml",
    )
    project.override(labelled("data"))
    with project.up() as container:
        server = container("server")
        serves(server, f"http://{HOST}:3000")
        with tunnel(key, published(server, 2222), app) as said:
            url = said["tunnels"]["/web"]
            at = f"::127.0.0.1:{published(server, 3000)}"
            assert url.startswith("http://web-") and url.endswith(f".{HOST}:3000/")
            assert curl("--connect-to", at, url) == "hello"
            assert f"ssh -p 2222 -R /my-tunnel:localhost:5000 {HOST} hello" in curl(
                "--connect-to", at, f"http://{HOST}:3000/"
            )
        project.must("restart", "-t", "20", "server")
        serves(server, f"http://{HOST}:3000")
        log = project.must("logs", "--no-color", "server")
        assert (log.count("server.stopped"), log.count("server.started")) == (1, 2)
        key_file = ("exec", "-T", "server", "cat", "/data/ssh/ssh_host_key")
        made = project.must(*key_file)
        project.shell(typed("> data.tar"))
        project.must("exec", "-T", "server", "rm", "-r", "/data/ssh")
        project.shell(typed("< data.tar"))
        assert project.must(*key_file) == made
        assert (project.folder / "data.tar").stat().st_mode & 0o777 == 0o600
        serves(server, f"http://{HOST}:3000")
        assert project.must("logs", "--no-color", "server").count("server.started") == 3
        assert docker("inspect", "-f", "{{.State.Health.Status}}", server) in ("starting", "healthy")


def test_the_tls_file_serves_certificates_of_a_folder(image: str, tmp_path: Path) -> None:
    pair = make_pair(tmp_path, HOST, f"*.{HOST}", stem="wildcard")
    project = Project(
        tmp_path,
        BASE_URL=f"https://{HOST}",
        IMAGE=image,
        PUBLISH_HTTP="127.0.0.1:",
        PUBLISH_SSH="127.0.0.1:",
        PUBLISH_TLS="127.0.0.1:",
        TUNNEL_SERVER_ACME="",
        COMPOSE_FILE=f"{PLAIN}:{TLS}:test.yaml",
    )
    project.override(labelled("data"))
    with project.up() as container:
        server = container("server")
        serves(server, f"http://{HOST}")
        for file in (pair.cert, pair.key):  # read by nobody in particular
            (project.folder / "certs" / file.name).write_bytes(file.read_bytes())
            (project.folder / "certs" / file.name).chmod(0o644)
        at = ["--cacert", str(pair.ca), "--connect-to", f"::127.0.0.1:{published(server, 8443)}"]

        wait_until(lambda: curl(*at, f"https://{HOST}/healthz") == "OK", "the certificate")
        assert "No active tunnel" in curl(*at, f"https://nobody.{HOST}/")


@pytest.fixture
def authority(tmp_path: Path, base_image: str) -> dict[str, Any]:
    """A service for an override: a real ACME server, which finds hosts by the names of the private network."""
    folder = tmp_path / "authority"
    folder.mkdir()
    pair = make_pair(folder, "authority")
    config = {
        "listenAddress": "0.0.0.0:14000",
        "managementListenAddress": "0.0.0.0:15000",
        "certificate": f"/authority/{pair.cert.name}",
        "privateKey": f"/authority/{pair.key.name}",
        "httpPort": 3000,
        "tlsPort": 8443,
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": config}))
    return {
        "image": base_image,
        "command": ["pebble", "-config", "/authority/pebble.json", "-dnsserver", "127.0.0.11:53"],
        "environment": {"PEBBLE_VA_NOSLEEP": "1"},
        "volumes": [f"{folder}:/authority:ro", f"{need('pebble')}:/usr/bin/pebble:ro"],
        "ports": ["127.0.0.1::15000"],
        "labels": {NAME: RUN},
    }


def test_the_tls_file_gets_certificates_and_the_monitoring_file_watches_it(
    image: str, base_image: str, authority: dict[str, Any], tmp_path: Path, key: Path, app: int
) -> None:
    """Images of Prometheus and Grafana need a registry: a binary of this machine is the one, and nothing the other."""
    project = Project(
        tmp_path,
        BASE_URL=f"https://{HOST}",
        IMAGE=image,
        PUBLISH_HTTP="127.0.0.1:",
        PUBLISH_SSH="127.0.0.1:",
        PUBLISH_TLS="127.0.0.1:",
        PUBLISH_PROMETHEUS="127.0.0.1:",
        PROMETHEUS_IMAGE=base_image,
        TUNNEL_SERVER_ACME="https://authority:14000/dir",
        TUNNEL_SERVER_ACME_CA_FILE="/authority/ca.pem",
        TUNNEL_SERVER_ACME_PRIVATE_CA="true",
        TUNNEL_SERVER_ACME_HOSTS=HOST,
        TUNNEL_SERVER_ACME_ON_DEMAND="true",
        TUNNEL_SERVER_ACME_LABELS="true",
        COMPOSE_FILE=":".join([*FILES[-1], "test.yaml"]),
    )
    config = project.folder.parent / "monitoring" / "prometheus.yml"
    config.write_text(config.read_text().replace("15s", "1s"))  # so that nobody waits for the first look
    label = f"web-{ClientId.from_public_key(asyncssh.read_private_key(key).public_data)}.{HOST}"
    ours = labelled("data", "prometheus", "grafana")
    ours["services"]["authority"] = authority
    ours["services"]["server"] |= {
        "volumes": authority["volumes"][:1],
        "networks": {"default": {"aliases": [HOST, label]}},
        "depends_on": ["authority"],
    }
    ours["services"]["prometheus"] = {
        "entrypoint": ["prometheus"],
        "user": "0:0",
        "volumes": [f"{need('prometheus')}:/usr/bin/prometheus:ro"],
        "labels": {NAME: RUN},
    }
    project.override(ours)
    with project.up("server", "prometheus") as container, ExitStack() as stack:
        server, watcher = container("server"), container("prometheus")
        of_authority = ["--cacert", str(tmp_path / "authority" / "ca.pem"), "https://authority/roots/0", "--connect-to"]
        of_authority.append(f"::127.0.0.1:{published(container('authority'), 15000)}")
        (tmp_path / "root.pem").write_text(wait_until(lambda: curl(*of_authority), "the authority's own certificate"))
        at = ["--cacert", str(tmp_path / "root.pem"), "--connect-to", f"::127.0.0.1:{published(server, 8443)}"]

        wait_until(lambda: curl(*at, f"https://{HOST}/healthz") == "OK", "a certificate for the base host")
        # SSH comes in by the same port as HTTPS
        said = stack.enter_context(tunnel(key, published(server, 8443), app))
        assert said["tunnels"]["/web"] == f"https://{label}/"
        wait_until(lambda: curl(*at, f"https://{label}/") == "hello", "a certificate for the tunnel")
        redirect = curl("-I", "--connect-to", f"::127.0.0.1:{published(server, 3000)}", f"http://{label}/x")
        assert re.search(rf"(?im)^location: https://{label}/x$", redirect), redirect

        prometheus = f"http://127.0.0.1:{published(watcher, 9090)}/api/v1"
        query = f"{prometheus}/query?query=tunnel_server_tunnels"
        wait_until(lambda: json.loads(curl(query) or "{}").get("data", {}).get("result"), "a look at the server")
        rules = json.loads(curl(f"{prometheus}/rules"))["data"]["groups"][0]["rules"]
        assert len(rules) > 10 and all(rule["health"] != "err" for rule in rules)
