"""What deploy/monitoring looks at: a real server counts it, and a real Prometheus reads it, in every query there is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import ssl
import subprocess
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import yaml
from certs import make_pair
from pebble import Pebble, free_port
from rig import LIMIT, Rig, Service, answering, need, plain, with_plugins

from tunnel_server import Client, Reject, Tunnel, hookimpl

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
ALERTS = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {"$job": "tunnel-server", "$instance": ".+", "$__rate_interval": "5s"}
EVERY = "250ms"  # between scrapes, and between evaluations of the rules
START = 20.0  # seconds until Prometheus is ready
SEEN = 45.0  # seconds until all that is counted has been read, rates and all


def promtool(*words: str) -> str:
    """Return what promtool says; it has to be content."""
    done = subprocess.run([need("promtool"), *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# what is written


def test_prometheus_takes_the_configuration_and_the_alerts() -> None:
    assert "1 rule files found" in promtool("check", "config", str(MONITORING / "prometheus.yml"))


def test_each_alert_fires_when_it_should_and_no_other_does() -> None:
    promtool("test", "rules", str(MONITORING / "alerts.test.yml"))


def test_each_alert_is_tested_and_explained() -> None:
    tests = (MONITORING / "alerts.test.yml").read_text()
    page = (ROOT / "docs" / "how-to" / "monitoring.md").read_text()
    for rule in ALERTS:
        assert f'alertname="{rule["alert"]}"' in tests
        assert f"| `{rule['alert']}` |" in page
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"].keys() == {"summary", "description"}


def test_each_panel_says_what_it_shows_and_lies_where_no_other_does() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in PANELS:
        assert panel["title"] and panel["description"] and panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["targets"] and all(target["expr"] for target in panel["targets"])
        names = {target["refId"] for target in panel["targets"]}
        assert len(names) == len(panel["targets"])


def test_grafana_finds_what_compose_mounts() -> None:
    compose = yaml.safe_load((ROOT / "deploy" / "compose" / "compose.monitoring.yaml").read_text())
    grafana = compose["services"]["grafana"]
    mounts = dict(reversed(volume.split(":")[:2]) for volume in grafana["volumes"])
    provider = yaml.safe_load((MONITORING / "grafana" / "dashboards" / "files.yaml").read_text())["providers"][0]
    source = yaml.safe_load((MONITORING / "grafana" / "datasources" / "prometheus.yaml").read_text())["datasources"][0]

    assert mounts[f"{provider['options']['path']}/dashboard.json"] == "../monitoring/dashboard.json"
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] in mounts
    assert mounts["/etc/grafana/provisioning"] == "../monitoring/grafana"
    assert source["url"] == "http://prometheus:9090" and "prometheus" in compose["services"]
    interval = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval


# what is counted and read


class Prometheus:
    """A real one on loopback, which reads a server's metrics all the time."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    async def ask(self, path: str, **query: str) -> Any:
        """Return the data of an answer that has to be a success."""
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(query)}"

        def get() -> Any:
            with urllib.request.urlopen(url, timeout=LIMIT) as answer:
                return json.load(answer)

        answer = await asyncio.to_thread(get)
        assert answer["status"] == "success", (query, answer)
        return answer["data"]

    async def numbers(self, query: str) -> list[float]:
        """Return the numbers that a query gives now; those that are none are left out."""
        found = (await self.ask("query", query=query))["result"]
        return [value for series in found if not math.isnan(value := float(series["value"][1]))]


@asynccontextmanager
async def prometheus(folder: Path, target: int) -> AsyncIterator[Prometheus]:
    """Run Prometheus with our configuration, in which only addresses and times are others."""
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": EVERY}
    config["rule_files"] = [str(MONITORING / "alerts.yml")]
    for job in config["scrape_configs"]:
        if job["job_name"] == "tunnel-server":
            job["static_configs"] = [{"targets": [f"127.0.0.1:{target}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    words = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "prometheus.log").open("wb") as log:
        program = await asyncio.create_subprocess_exec(
            need("prometheus"), *words, f"--web.listen-address=127.0.0.1:{port}", stdout=log, stderr=log
        )
    try:
        running = Prometheus(port)
        async with asyncio.timeout(START):
            while True:
                assert program.returncode is None, (folder / "prometheus.log").read_text()
                with contextlib.suppress(OSError):
                    await running.ask("status/buildinfo")
                    break
                await asyncio.sleep(0.05)
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            program.terminate()
        await program.wait()


class Meddler:
    """Turns one user away, and fails whenever a tunnel opens."""

    @hookimpl
    def authenticate_client(self, client: Client) -> Reject | None:
        return Reject("not you") if client.user == "nobody" else None

    @hookimpl
    def tunnel_opened(self, tunnel: Tunnel) -> None:
        raise RuntimeError("as it is meant to")


@pytest.fixture
def lean_ssh() -> bool:
    """What is counted is the same on both paths; the lean one counts itself."""
    return True


@pytest.fixture
def pebble(tmp_path: Path) -> Iterator[Pebble]:
    with Pebble(tmp_path / "pebble") as running:
        running.tell_dns("set-servfail", host="nowhere.test.")
        yield running


@pytest.fixture
async def server(make_rig: Callable[..., Any], pebble: Pebble, tmp_path: Path) -> AsyncIterator[Rig]:
    """A server that orders certificates, one in vain, has others in a folder, and takes little at once."""
    folder = tmp_path / "certs"
    folder.mkdir()
    make_pair(folder, "web.test", stem="web")
    settings = {
        "port": pebble.http_port,
        "tls_port": pebble.tls_port,
        "acme": pebble.directory_url,
        "acme_ca_file": str(pebble.ca_file),
        "acme_folder": str(tmp_path / "acme"),
        "acme_private_ca": True,
        "acme_hosts": ("tunnels.test", "nowhere.test"),
        "tls_cert_dir": str(folder),
        "max_channels": 2,  # of which one visitor has half
        "queue_length": 2,
        "max_handshakes": 4,
    }
    async with make_rig(with_plugins(meddler=Meddler()), **settings) as rig:
        (folder / "web.crt").write_text("no certificate")
        yield rig


@asynccontextmanager
async def traffic(rig: Rig) -> AsyncIterator[None]:
    """Do all that is counted, again and again, while entered."""

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.1)
        writer.write(plain(b"late"))  # and goes: the next request needs a new channel

    async with (
        Service(answering(plain(b"x"), plain(b"gone", status="404 Gone"), plain(b"x", status="500 No"))) as service,
        Service(slow) as slowly,
        rig.tunnel(service.port) as host,
        rig.tunnel(slowly.port, "/slow") as slow_host,
        rig.tunnel(1, "/dead") as dead_host,
        asyncio.TaskGroup() as group,  # ends all, if what is done fails
    ):

        async def again() -> None:
            while True:
                for name in (host, host, host, dead_host, "nobody.tunnels.test"):
                    await rig.get(name)
                await asyncio.gather(*(rig.get(slow_host) for _ in range(3)))
                await unwelcome_clients(rig)
                await handshakes(rig)
                await asyncio.sleep(0.05)

        task = group.create_task(again())
        yield
        task.cancel()


async def unwelcome_clients(rig: Rig) -> None:
    """One goes before it logs in, one is turned away, one asks for a name that nobody gets."""
    await (await rig.connect(port=rig.ssh.port)).raw(b"SSH-2.0-passing-by\r\n")
    with pytest.raises(asyncssh.PermissionDenied):
        async with rig.client(username="nobody"):
            pass
    async with rig.client() as client:
        with pytest.raises(asyncssh.ChannelListenError):
            await client.forward_remote_path_to_port("", "127.0.0.1", 1)


async def handshakes(rig: Rig) -> None:
    """Some succeed, some fail, and some never begin."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    (await rig.connect_tls(trusting, "web.test")).close()
    url = f"https://web.test:{rig.tls.port}/"
    distrusting = await asyncio.create_subprocess_exec(need("curl"), "-s", "--connect-to", "::127.0.0.1:", url)
    assert await distrusting.wait() == 60  # the certificate is not trusted
    silent = [await rig.connect(port=rig.tls.port) for _ in range(6)]
    for visit in silent:
        visit.close()


def filled_in(query: str) -> str:
    """Return a panel's query as Grafana would send it."""
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    assert "$" not in query
    return query


def wanted() -> set[str]:
    """Return what has to have an answer: each query of the dashboard, and each series that an alert looks at."""
    queries = {filled_in(target["expr"]) for panel in PANELS for target in panel["targets"]}
    series = re.compile(r"\b(?:tunnel_server_\w+|process_\w+|up|scrape_duration_seconds)(?:{[^}]*})?")
    for rule in ALERTS:
        queries |= set(series.findall(rule["expr"]))
    return queries


async def test_every_query_finds_what_a_server_counts(server: Rig, tmp_path: Path) -> None:
    async with traffic(server), prometheus(tmp_path, server.metrics.port) as running:
        left = wanted()
        assert len(left) > 50
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SEEN):
                while left:
                    for query in sorted(left):
                        if await running.numbers(query):
                            left.discard(query)
                    await asyncio.sleep(0.1)
        assert not left, "\n".join(sorted(left))

        rules = (await running.ask("rules"))["groups"][0]["rules"]
        assert {rule["name"]: rule["health"] for rule in rules} == {rule["alert"]: "ok" for rule in ALERTS}
        firing = {rule["name"] for rule in rules if rule["state"] == "firing"}
        assert firing >= {"TunnelServerPluginFails", "TunnelServerCertificateRefused"}
        for annotation in DASHBOARD["annotations"]["list"]:
            assert await running.numbers(annotation["expr"])
        for variable in DASHBOARD["templating"]["list"][1:]:
            of, label = re.fullmatch(r"label_values\((.*), (\w+)\)", filled_in(variable["query"]["query"])).groups()  # type: ignore[union-attr]
            assert await running.ask(f"label/{label}/values", **{"match[]": of})
