"""What the guide for newcomers tells to type works: its very blocks, on a machine made of folders and loopback."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import ssl
import sys
import tomllib
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest
from certs import Pair, make_pair
from pebble import free_port
from rig import LIMIT, Service, answering, need, plain

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/how-to/self-hosting.md").read_text()
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TYPED = re.compile(r"(?:^    .+\n)+", re.MULTILINE)
UNITS = ROOT / "deploy/systemd"
HOST = "tunnels.example.com"
SIGNABLE = "tunnels.guide.dev"  # that of the guide is reserved for documentation, and no CA would sign it
GUESTS = [ROOT / "plugins" / name for name in ("authorized-keys", "dns-challenge")]


def fenced(kind: str, having: str) -> str:
    """Return the one fenced block of a kind that has these words."""
    [found] = [text for its, text in FENCED.findall(GUIDE) if its == kind and having in text]
    return str(found)


def typed(having: str) -> str:
    """Return the one line to type that has these words, with those that continue it."""
    text = FENCED.sub("", GUIDE)
    lines = [re.sub(r"\\\n +", "", block).splitlines() for block in TYPED.findall(text)]
    [found] = [line.strip() for block in lines for line in block if having in line]
    return found


BEFORE = fenced("toml", "base_url")  # a certificate is chosen
COMMON = BEFORE + fenced("toml", "force_https")
WAYS = {
    "A": COMMON + fenced("toml", "dns_challenge_port"),
    "B": COMMON + fenced("toml", "tls_cert_file"),
    "C": COMMON + fenced("toml", "acme_labels"),
    "D": re.sub(r"^(tls_)?port = .*\n", "", COMMON, flags=re.MULTILINE) + fenced("toml", "trusted_proxies"),
}
WAYS["before a way is chosen"] = BEFORE


class Machine:
    """The newcomer's machine below a folder: its /etc and /var, its ports, and programs that find them."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "machine"
        self.etc, self.state = self.root / "etc/tunnel-server", self.root / "var/lib/tunnel-server"
        self.http, self.tls, self.ssh, self.metrics, self.app = (free_port() for _ in range(5))
        self.programs = folder / "bin"
        self.key, self.known_hosts = folder / "id", folder / "known_hosts"
        for made in (self.etc, self.state.parent / "private/tunnel-server", self.programs, folder / "site"):
            made.mkdir(parents=True)
        self.state.symlink_to("private/tunnel-server")  # as systemd keeps the state of DynamicUser=
        self._folder = folder
        self.key.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
        self.key.chmod(0o600)
        self.public_key = asyncssh.read_private_key(self.key).export_public_key().decode().strip()
        self._add_programs()

    def _add_programs(self) -> None:
        for program in ("curl", "openssl", "ssh-keygen", "tar"):
            need(program)
        config = self._folder / "ssh_config"
        config.write_text(
            f"Host {HOST}\n  HostName 127.0.0.1\n  HostKeyAlias {HOST}\n  BatchMode yes\n"
            f"  IdentityFile {self.key}\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            f"  UserKnownHostsFile {self.known_hosts}\n  StrictHostKeyChecking yes\n"
        )
        self._program("ssh", f'exec {need("ssh")} -F {config} "$@"')
        self._program("tunnel-server", f'exec {sys.executable} -m tunnel_server "$@"')
        for guest in GUESTS:  # as an installation makes it known
            project = tomllib.loads((guest / "pyproject.toml").read_text())["project"]
            known = self._folder / f"site/{project['name'].replace('-', '_')}-0.dist-info"
            known.mkdir()
            (known / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0\n")
            [[name, target]] = project["entry-points"]["tunnel_server"].items()
            (known / "entry_points.txt").write_text(f"[tunnel_server]\n{name} = {target}\n")

    def _program(self, name: str, line: str) -> None:
        (self.programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (self.programs / name).chmod(0o755)

    def trust(self, pair: Pair) -> None:
        """Have visitors believe a certificate's CA, and come here whatever the host's name is."""
        (self._folder / ".curlrc").write_text(
            f'cacert = {pair.ca}\nconnect-to = "::127.0.0.1:{self.tls}"\nsilent\nfail\n'
        )

    def here(self, text: str) -> str:
        """Return a text of the guide with this machine's paths and ports."""
        places = {
            "/etc/tunnel-server": str(self.etc),
            "/var/lib/tunnel-server": str(self.state),
            "tar -C / ": f"tar -C {self.root} ",
            "cd /;": f"cd {self.root};",
            "port = 80\n": f"port = {self.http}\n",
            "port = 443\n": f"port = {self.tls}\n",
            "port = 2222\n": f"port = {self.ssh}\n",
            "port = 8888\n": f"port = {self.metrics}\nlisten_host = '127.0.0.1'\n",
            "-p 2222": f"-p {self.ssh}",
            "-p 443": f"-p {self.tls}",
            "-connect tunnels.example.com:443": f"-connect 127.0.0.1:{self.tls} -servername {HOST}",
            "curl -s http://127.0.0.1:8888": f"curl -q -s http://127.0.0.1:{self.metrics}",
            "localhost:5000": f"127.0.0.1:{self.app}",
            "ssh-ed25519 AAAA… ada@desk": self.public_key,
            "sleep 5": "sleep 0.1",
        }
        return re.sub("|".join(map(re.escape, places)), lambda found: places[found[0]], text)

    @asynccontextmanager
    async def process(self, command: str, **environ: str) -> AsyncIterator[Process]:
        """Run a line of the guide in a shell; what it started ends with the block."""
        environment = {
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "HOME": str(self._folder),
            "CURL_HOME": str(self._folder),
            "PYTHONPATH": ":".join(map(str, [self._folder / "site", *(guest / "src" for guest in GUESTS)])),
            **environ,
        }
        process = await asyncio.create_subprocess_exec(
            *(need("bash"), "-uc", self.here(command)),
            cwd=self._folder, env=environment, stdout=PIPE, stderr=PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()

    async def shell(self, command: str, **environ: str) -> str:
        """Return what a line of the guide prints; it has to succeed."""
        async with self.process(command, **environ) as process, asyncio.timeout(LIMIT):
            out, error = await process.communicate()
        assert process.returncode == 0, f"{command}\n{out.decode()}{error.decode()}"
        return out.decode()

    @asynccontextmanager
    async def server(self) -> AsyncIterator[Process]:
        """Run the server as its unit does, and end it in good order."""
        [command] = re.findall(
            r"^ExecStart=/opt/tunnel-server/bin/(.*)$",
            (UNITS / "tunnel-server.service").read_text(),
            re.MULTILINE,
        )
        async with self.process(
            f"set -a; . /etc/tunnel-server/env; cd /var/lib/tunnel-server; exec {command}"
        ) as process:
            assert process.stderr is not None
            async with asyncio.timeout(LIMIT):
                said = b""
                while b'"server.started"' not in said:
                    line = await process.stderr.readline()
                    assert line, said.decode()
                    said += line
            yield process
            process.terminate()
            async with asyncio.timeout(LIMIT):
                await process.communicate()

    async def comes(self, command: str) -> str:
        """Return what a command prints once it succeeds."""
        async with asyncio.timeout(LIMIT):
            while True:
                async with self.process(command) as process:
                    out, _ = await process.communicate()
                if process.returncode == 0:
                    return out.decode()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
async def pair(machine: Machine, tmp_path: Path) -> Pair:
    """A wildcard certificate, handed over by the guide's script, and all of step 4."""
    made = lineage(tmp_path, "first")
    await hand_over(machine, tmp_path, "first")
    machine.trust(made)
    (machine.etc / "settings.toml").write_text(machine.here(WAYS["B"]))
    await machine.shell(typed("ada@desk"))
    await machine.shell(typed("COOKIE_SECRETS="))
    return made


def lineage(folder: Path, name: str) -> Pair:
    """Make a certificate as certbot leaves it, in a folder of this name."""
    (folder / name).mkdir()
    pair = make_pair(folder, HOST, f"*.{HOST}", stem=name)
    (folder / name / "privkey.pem").write_bytes(pair.key.read_bytes())
    (folder / name / "fullchain.pem").write_bytes(pair.cert.read_bytes())
    return pair


async def hand_over(machine: Machine, folder: Path, name: str) -> None:
    script = folder / "tunnel-server-certificate"
    script.write_text(machine.here(fenced("sh", "RENEWED_LINEAGE")))
    script.chmod(0o755)
    await machine.shell(str(script), RENEWED_LINEAGE=str(folder / name))


@pytest.mark.parametrize("way", WAYS)
async def test_the_settings_of_each_way_are_accepted(machine: Machine, tmp_path: Path, way: str) -> None:
    lineage(tmp_path, "first")
    await hand_over(machine, tmp_path, "first")
    (machine.etc / "settings.toml").write_text(machine.here(WAYS[way]).replace(HOST, SIGNABLE))

    shown = json.loads(
        await machine.shell(typed("tunnel-server config").replace("settings.toml)", "settings.toml --json)"))
    )

    named = set(re.findall(r"^(\w+) = ", WAYS[way], re.MULTILINE))
    assert {name for name, entry in shown.items() if entry["from"].startswith("file ")} - {"listen_host"} == named


def test_the_ports_are_those_that_systemd_listens_on() -> None:
    listening = {}
    for unit in UNITS.glob("*.socket"):
        its = dict(re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE))
        listening[its["FileDescriptorName"]] = its["ListenStream"]
    own = dict(re.findall(r'^(\w+) = "?([\w.]+)"?$', COMMON, re.MULTILINE))

    assert listening == {
        "http": own["port"],
        "tls": own["tls_port"],
        "ssh": own["ssh_port"],
        "metrics": f"{own['metrics_host']}:{own['metrics_port']}",
    }
    brought = re.findall(r"^Requires=(.*)$", (UNITS / "tunnel-server.service").read_text(), re.MULTILINE)[0].split()
    enabled = re.findall(r"\S+\.socket", typed("systemctl enable"))
    assert sorted(brought + enabled) == sorted(unit.name for unit in UNITS.glob("*.socket"))


async def test_a_certificate_that_is_handed_over_is_served_without_a_restart(
    machine: Machine, pair: Pair, tmp_path: Path
) -> None:
    context = pair.client_context()

    async def served() -> bytes | None:
        _, writer = await asyncio.open_connection("127.0.0.1", machine.tls, ssl=context, server_hostname=HOST)
        shown: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return shown

    async with machine.server():
        before = await served()
        renewed = lineage(tmp_path, "second")
        await hand_over(machine, tmp_path, "second")

        async with asyncio.timeout(LIMIT):
            while (after := await served()) == before:
                await asyncio.sleep(0.05)

    assert before == ssl.PEM_cert_to_DER_cert(pair.cert.read_text())
    assert after == ssl.PEM_cert_to_DER_cert(renewed.cert.read_text())
    assert oct((machine.state / "tls/key.pem").stat().st_mode)[-3:] == "600"


async def first_line(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(LIMIT):
        return (await process.stdout.readline()).decode()


async def publish_host_key(machine: Machine) -> str:
    """Do as step 6 says, and return the fingerprint."""
    machine.known_hosts.write_text(await machine.shell(typed("ssh-keygen -yf")))
    assert "IN SSHFP 4 2 " in await machine.shell(typed("ssh-keygen -r"))
    return await machine.shell(typed("ssh-keygen -lf"))


async def test_the_first_tunnel_opens_in_each_way_that_is_shown(machine: Machine, pair: Pair) -> None:
    urls = set()
    async with machine.server(), Service(answering(plain(b"it works"))) as app:
        machine.app = app.port
        await publish_host_key(machine)
        for way in ("ssh -p 2222 -R", "ssh -p 443 -R", "openssl s_client"):
            async with machine.process(typed(way)) as client:
                [url] = json.loads(await first_line(client))["tunnels"].values()
                urls.add(url)
                visit = re.sub(r"https://my-tunnel\S+", url, typed("curl https://my-tunnel"))

                assert await machine.shell(visit) == "it works"
                assert await machine.shell(typed("grep ^tunnel_server_tunnels")) == "tunnel_server_tunnels 1.0\n"
        assert await machine.shell(typed("/healthz")) == "OK"

    assert len(urls) == 1


async def test_who_is_not_in_the_file_is_told_so(machine: Machine, pair: Pair) -> None:
    (machine.etc / "authorized_keys").write_text("")
    async with machine.server():
        await publish_host_key(machine)
        async with machine.process(typed("ssh -p 2222 -R")) as client, asyncio.timeout(LIMIT):
            _, error = await client.communicate()

    assert client.returncode == 255
    words = "your key is not in the server's authorized keys"
    assert words in error.decode()
    assert f"| `{words}` |" in GUIDE


async def test_a_restart_and_a_restored_machine_keep_url_and_host_key(machine: Machine, pair: Pair) -> None:
    async with Service(answering(plain(b"it works"))) as app:
        machine.app = app.port
        async with machine.server():
            fingerprint = await publish_host_key(machine)
            told = json.loads(await machine.shell(f"ssh -p 2222 {HOST} tunnel-url my-tunnel"))
        visit = f"curl {told['my-tunnel']}"

        async with machine.process(fenced("sh", "while :")):
            async with machine.server():
                assert await machine.comes(visit) == "it works"
            drop_in = machine.root / "etc/systemd/system/tunnel-server.service.d/dns.conf"
            drop_in.parent.mkdir(parents=True)
            drop_in.write_text("[Service]\n")
            await machine.shell(typed("tar -chzf"))
            secret = (machine.etc / "env").read_text()
            await machine.shell(f"rm -r {machine.root} && mkdir {machine.root}")
            await machine.shell(typed("tar -C / -x"))
            async with machine.server():
                assert await machine.comes(visit) == "it works"

        assert await machine.shell(typed("ssh-keygen -lf")) == fingerprint
        assert (machine.etc / "env").read_text() == secret
        assert drop_in.exists()
        assert oct((machine.etc / "env").stat().st_mode)[-3:] == "600"
