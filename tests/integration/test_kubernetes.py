"""deploy/kubernetes: what kubectl and helm make of it is valid, locked down and of one mind."""

from __future__ import annotations

import copy
import re
import tomllib
from base64 import b64decode
from collections.abc import Callable, Iterator

import pytest
import yaml
from certs import Pair, make_pair
from containers import ROOT
from kubernetes import CHART, HOME, Manifest, malformed, not_restricted, one, pod
from kubernetes_made import CHARTS, DNS_PORTS, OVERLAYS, README, THERE, Made, charts, kustomizations

from tunnel_server.app.plugins import load
from tunnel_server.app.serve import LEAVE_WITHIN
from tunnel_server.app.settings import Settings

PLUGINS_PORTS = {port["name"] for port in DNS_PORTS}
NOTICED = 20  # seconds in which a load balancer's health check of a node fails

every = pytest.mark.parametrize("name", ["base", *OVERLAYS, "own", "OpenShift", "DNS", *CHARTS])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pki"), "tunnels.example.com", "*.tunnels.example.com", stem="first")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, pair: Pair) -> Made:
    root = tmp_path_factory.mktemp("project")
    return kustomizations(root, pair) | charts(root)


@every
def test_every_manifest_is_as_the_schemas_of_kubernetes_want_it(made: Made, name: str) -> None:
    assert [problem for manifest in made[name] for problem in malformed(manifest)] == []


@every
def test_the_pod_meets_the_restricted_standard_and_more(made: Made, name: str) -> None:
    spec = pod(made[name])
    (container,) = spec["containers"]

    assert not_restricted(spec) == []
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert spec["automountServiceAccountToken"] is False
    assert one(made[name], "ServiceAccount")["automountServiceAccountToken"] is False
    assert {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")} <= {"data", "plugins"}
    # In octal, which not everything that reads YAML takes for such.
    assert {v["secret"]["defaultMode"] for v in spec["volumes"] if "secret" in v} <= {0o440}


@every
def test_no_service_is_told_of_by_variables(made: Made, name: str) -> None:
    assert pod(made[name])["enableServiceLinks"] is False


@every
def test_every_reference_leads_somewhere(made: Made, name: str) -> None:
    manifests = made[name]
    there = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    made_by_others = {("Secret", m["spec"]["secretName"]) for m in manifests if m["kind"] == "Certificate"}
    ports = {port["name"] for port in pod(manifests)["containers"][0]["ports"]}
    labels = one(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"].items()

    for kind, referred in _references(pod(manifests)):
        assert (kind, referred) in there | made_by_others or referred in THERE, f"there is no {kind} {referred}"
    for manifest in manifests:
        spec = manifest.get("spec", {})
        match manifest["kind"]:
            case "Service":
                assert spec["selector"].items() <= labels
                assert {port["targetPort"] for port in spec["ports"]} <= ports
            case "Deployment" | "PodDisruptionBudget":
                assert spec["selector"]["matchLabels"].items() <= labels
            case "NetworkPolicy":
                assert spec["podSelector"]["matchLabels"].items() <= labels
                assert {port["port"] for rule in spec["ingress"] for port in rule["ports"]} == ports
            case "Ingress":
                for path in (path for rule in spec["rules"] for path in rule["http"]["paths"]):
                    backend = path["backend"]["service"]
                    served = one(manifests, "Service", backend["name"])["spec"]["ports"]
                    assert backend["port"]["name"] in {port["name"] for port in served}
            case "ServiceMonitor":
                (monitored,) = _selected(manifests, spec["selector"]["matchLabels"])
                assert [end["port"] for end in spec["endpoints"]] == [p["name"] for p in monitored["spec"]["ports"]]
                assert monitored["metadata"]["labels"][spec["jobLabel"]] == "tunnel-server"  # what the alerts look for


def _references(spec: Manifest) -> Iterator[tuple[str, str]]:
    (container,) = spec["containers"]
    yield "ServiceAccount", spec["serviceAccountName"]
    for source in container["envFrom"]:
        yield ("ConfigMap" if "configMapRef" in source else "Secret"), next(iter(source.values()))["name"]
    for variable in container["env"]:
        if "valueFrom" in variable:
            yield "Secret", variable["valueFrom"]["secretKeyRef"]["name"]
    for volume in spec["volumes"]:
        match volume:
            case {"secret": its}:
                yield "Secret", its["secretName"]
            case {"configMap": its}:
                yield "ConfigMap", its["name"]
            case {"persistentVolumeClaim": its}:
                yield "PersistentVolumeClaim", its["claimName"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


def _selected(manifests: list[Manifest], labels: dict[str, str]) -> list[Manifest]:
    services = [manifest for manifest in manifests if manifest["kind"] == "Service"]
    return [service for service in services if labels.items() <= service["metadata"]["labels"].items()]


@every
def test_metrics_are_never_public_and_read_from_where_it_is_said_only(made: Made, name: str) -> None:
    policy = one(made[name], "NetworkPolicy")["spec"]
    anybody, monitoring = policy["ingress"]

    assert {port["port"] for port in anybody["ports"]} - PLUGINS_PORTS == {"http", "ssh", "tls"}
    readers = [source["namespaceSelector"]["matchLabels"] for source in monitoring["from"]]
    wanted = ["monitoring", "ours"] if name == "chart with everything else" else ["monitoring"]
    assert readers == [{"kubernetes.io/metadata.name": namespace} for namespace in wanted]
    assert [port["port"] for port in monitoring["ports"]] == ["metrics"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    for service in (manifest for manifest in made[name] if manifest["kind"] == "Service"):
        if "metrics" in {port["targetPort"] for port in service["spec"]["ports"]}:
            assert service["spec"].get("type", "ClusterIP") == "ClusterIP"


def test_nothing_goes_out_unless_wanted(made: Made) -> None:
    assert {name: one(made[name], "NetworkPolicy")["spec"]["egress"] for name in ("base", "tls", "chart")} == {
        "base": [], "tls": [], "chart": [],
    }  # fmt: skip
    for name in ("acme", "own", "chart as acme"):
        allowed = [port for rule in one(made[name], "NetworkPolicy")["spec"]["egress"] for port in rule["ports"]]
        assert {(port["port"], port.get("protocol", "TCP")) for port in allowed} == {
            (53, "UDP"), (53, "TCP"), (5353, "UDP"), (5353, "TCP"), (443, "TCP"),
        }  # fmt: skip


@pytest.mark.parametrize("name", ["DNS", "chart as acme"])
def test_a_ca_gets_to_the_plugin_by_port_53(made: Made, name: str) -> None:
    def protocols(ports: list[Manifest], **wanted: object) -> set[str]:
        return {port.get("protocol", "TCP") for port in ports if wanted.items() <= port.items()}

    ports = pod(made[name])["containers"][0]["ports"]
    served = one(made[name], "Service")["spec"]["ports"]
    policy = one(made[name], "NetworkPolicy")["spec"]["ingress"][0]["ports"]

    for protocol, port in (("UDP", "dns"), ("TCP", "dns-tcp")):
        assert protocols(ports, name=port, containerPort=8053) == {protocol}
        assert protocols(served, name=port, port=53, targetPort=port) == {protocol}
        assert protocols(policy, port=port) == {protocol}


def test_the_chart_chooses_addresses_and_their_balancer(made: Made) -> None:
    service = one(made["chart as acme"], "Service")["spec"]

    assert (service["ipFamilyPolicy"], service["ipFamilies"]) == ("PreferDualStack", ["IPv6", "IPv4"])
    assert service["loadBalancerClass"] == "ours.example.com/public"


@every
def test_ports_are_the_image_s_and_the_settings(made: Made, name: str) -> None:
    ports = {port["name"]: port["containerPort"] for port in pod(made[name])["containers"][0]["ports"]}
    ports = {name: port for name, port in ports.items() if name not in PLUGINS_PORTS}
    exposed = re.search(r"^EXPOSE (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    its = Settings()

    assert exposed is not None
    assert set(ports.values()) == {int(port) for port in exposed[1].split()}
    assert ports == {"http": its.port, "ssh": its.ssh_port, "tls": its.tls_port, "metrics": its.metrics_port}


def test_the_user_is_the_image_s(made: Made) -> None:
    its = pod(made["base"])["securityContext"]
    assert f"\nUSER {its['runAsUser']}:{its['runAsGroup']}\n" in (ROOT / "Dockerfile").read_text()


@every
def test_every_variable_is_a_setting_that_the_server_takes(made: Made, name: str, pair: Pair) -> None:
    (container,) = pod(made[name])["containers"]
    given = {v["name"]: v.get("value", "a-secret-of-32-characters-at-least") for v in container["env"]}
    for source in container["envFrom"]:
        if "configMapRef" in source:
            given |= one(made[name], "ConfigMap", source["configMapRef"]["name"])["data"]
    given.pop("TUNNEL_SERVER_PLUGINS_DIR", None)  # a folder that is not here
    here = {"/etc/tunnel-server/tls/tls.crt": str(pair.cert), "/etc/tunnel-server/tls/tls.key": str(pair.key)}
    given = {variable: here.get(value, value.replace(".example.com", ".ours.dev")) for variable, value in given.items()}

    origins = load({}, given, None).origins.values()

    assert {variable for variable in given if f"environment {variable}" not in origins} == set()


@every
def test_a_stop_has_the_time_that_it_needs(made: Made, name: str) -> None:
    spec = pod(made[name])
    (container,) = spec["containers"]
    given = {variable["name"]: variable.get("value", "") for variable in container["env"]}
    grace = float(given.get("TUNNEL_SERVER_GRACE_PERIOD", Settings().grace_period))

    assert spec["terminationGracePeriodSeconds"] > _before(container) + grace + LEAVE_WITHIN


@every
def test_a_balancer_that_asks_nodes_for_their_health_has_the_time_to_notice_a_stop(made: Made, name: str) -> None:
    (container,) = pod(made[name])["containers"]
    services = [manifest["spec"] for manifest in made[name] if manifest["kind"] == "Service"]

    if any(service.get("externalTrafficPolicy") == "Local" for service in services):
        assert _before(container) >= NOTICED
    else:
        assert _before(container) < NOTICED


def _before(container: Manifest) -> int:
    """Return the seconds that a container still serves after its pod was told to stop."""
    return int(container["lifecycle"]["preStop"]["sleep"]["seconds"]) if "lifecycle" in container else 0


@every
def test_there_is_one_server_and_an_update_never_shares_its_volume(made: Made, name: str) -> None:
    deployment = one(made[name], "Deployment")["spec"]
    keeps = any("persistentVolumeClaim" in volume for volume in deployment["template"]["spec"]["volumes"])

    assert deployment["replicas"] == 1
    if keeps:
        assert deployment["strategy"] == {"type": "Recreate"}
    else:
        assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_nobody_evicts_a_server_that_works(made: Made) -> None:
    for name in ("base", "chart"):
        budget = one(made[name], "PodDisruptionBudget")["spec"]
        assert (budget["minAvailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")


@pytest.mark.parametrize(
    ("kustomization", "chart"), [("base", "chart as base"), ("tls", "chart as tls"), ("DNS", "chart as acme")]
)
def test_chart_and_kustomization_make_the_same_pod(made: Made, kustomization: str, chart: str) -> None:
    assert _essence(made[chart]) == _essence(made[kustomization])


def _essence(manifests: list[Manifest]) -> Manifest:
    """Return the pod without what is named otherwise here and there."""
    spec = copy.deepcopy(pod(manifests))
    (container,) = spec["containers"]
    del container["envFrom"]
    container["env"] = [v for v in container["env"] if v["name"] != "TUNNEL_SERVER_GRACE_PERIOD"]  # base: the default
    for variable in container["env"]:
        if "valueFrom" in variable:
            variable["valueFrom"]["secretKeyRef"].pop("name")
    for volume in spec["volumes"]:
        volume.get("secret", {}).pop("secretName", None)
    for several in (container["env"], container["volumeMounts"], spec["volumes"]):
        several.sort(key=lambda entry: entry["name"])
    return spec


def test_the_chart_passes_large_numbers_and_flags_on_as_they_are(made: Made) -> None:
    config = one(made["chart with a volume"], "ConfigMap")["data"]
    assert (config["TUNNEL_SERVER_MAX_VISITORS"], config["TUNNEL_SERVER_ACCESS_LOG"]) == ("1000000", "true")


def test_the_chart_s_own_secrets_hold_the_texts(made: Made) -> None:
    secrets = {m["metadata"]["name"]: m["data"] for m in made["chart with texts"] if m["kind"] == "Secret"}
    assert {name: {key: b64decode(value) for key, value in data.items()} for name, data in secrets.items()} == {
        "tunnel-server-ssh": {"ssh_host_key": b"a\nb"},
        "tunnel-server-cookies": {"cookie_secret": b"c"},
        "tunnel-server-tls": {"tls.crt": b"d\n", "tls.key": b"e\n"},
    }


@pytest.mark.parametrize("name", ["cert-manager", "ingress", "chart with cert-manager", "chart with an ingress"])
def test_hosts_are_those_of_the_base_url(made: Made, name: str) -> None:
    hosts = ["tunnels.example.com", "*.tunnels.example.com"]
    for manifest in made[name]:
        if manifest["kind"] == "Certificate":
            assert manifest["spec"]["dnsNames"] == hosts
        if manifest["kind"] == "Ingress":
            assert [rule["host"] for rule in manifest["spec"]["rules"]] == hosts
            assert manifest["spec"]["tls"] == [{"secretName": "tunnel-server-tls", "hosts": hosts}]
    assert {manifest["kind"] for manifest in made[name]} & {"Certificate", "Ingress"}


def test_the_certificate_s_secret_keeps_its_name_so_that_a_new_one_is_no_new_pod(made: Made) -> None:
    names = {manifest["metadata"]["name"] for manifest in made["tls"] if manifest["kind"] == "Secret"}

    assert "tunnel-server-tls" in names
    # A new host key is one, and these names say so.
    assert {"tunnel-server-ssh", "tunnel-server-cookies"} & names == set()


def test_the_rules_are_the_alerts(made: Made) -> None:
    alerts = ROOT / "deploy" / "monitoring" / "alerts.yml"
    how = "copy deploy/monitoring/alerts.yml into components/monitoring/rules.yaml and chart/tunnel-server/alerts.yml"

    assert (CHART / "alerts.yml").read_bytes() == alerts.read_bytes(), how
    for name in ("own", "chart with cert-manager"):
        assert one(made[name], "PrometheusRule")["spec"] == yaml.safe_load(alerts.read_text()), how


def test_versions_agree(made: Made) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert (chart["version"], chart["appVersion"]) == (version, version)
    assert {pod(made[name])["containers"][0]["image"] for name in ("base", "chart")} == {f"tunnel-server:{version}"}


def test_what_the_readme_names_is_there() -> None:
    named = set(re.findall(r"(?:overlays|components|chart)/[a-z/.-]*[a-z]", README))
    assert {name for name in named if not (HOME / name).exists()} == set()
    for folder in (*(HOME / "overlays").iterdir(), *(HOME / "components").iterdir()):
        assert f"{folder.parent.name}/{folder.name}" in named | {"components/tls", "components/load-balancer"}


Spoil = Callable[[Manifest], object]


@pytest.mark.parametrize(
    ("control", "spoil"),
    [
        ("hostNetwork", lambda s: s.update(hostNetwork=True)),
        ("hostPID", lambda s: s.update(hostPID=True)),
        ("volume types", lambda s: s["volumes"].append({"name": "a", "hostPath": {"path": "/"}})),
        ("sysctls", lambda s: s["securityContext"].update(sysctls=[{"name": "a", "value": "b"}])),
        ("seccomp", lambda s: s["securityContext"].pop("seccompProfile")),
        ("running as root", lambda s: s["securityContext"].pop("runAsNonRoot")),
        ("running as root", lambda s: s["securityContext"].update(runAsUser=0)),
        ("running as root", lambda s: s["containers"][0]["securityContext"].update(runAsNonRoot=False)),
        ("privileged", lambda s: s["containers"][0]["securityContext"].update(privileged=True)),
        ("privilege escalation", lambda s: s["containers"][0]["securityContext"].pop("allowPrivilegeEscalation")),
        ("capabilities", lambda s: s["containers"][0]["securityContext"].pop("capabilities")),
        ("capabilities", lambda s: s["containers"][0]["securityContext"]["capabilities"].update(add=["NET_RAW"])),
        ("procMount", lambda s: s["containers"][0]["securityContext"].update(procMount="Unmasked")),
        ("host ports", lambda s: s["containers"][0]["ports"][0].update(hostPort=80)),
        ("hosts of probes", lambda s: s["containers"][0]["readinessProbe"]["httpGet"].update(host="a")),
        ("privilege escalation", lambda s: s.update(initContainers=[{"name": "a"}])),
    ],
)
def test_a_pod_that_is_not_restricted_is_found_out(made: Made, control: str, spoil: Spoil) -> None:
    spec = copy.deepcopy(pod(made["base"]))
    spoil(spec)
    assert control in not_restricted(spec)


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("Deployment", lambda m: m["spec"]["template"]["spec"]["containers"][0].update(readynessProbe={})),
        ("Deployment", lambda m: m["spec"].update(replicas="1")),
        ("Service", lambda m: m["spec"]["ports"][0].pop("port")),
        ("NetworkPolicy", lambda m: m["spec"].pop("podSelector") and m["spec"].update(podselector={})),
        ("PodDisruptionBudget", lambda m: m.update(apiVersion="policy/v1beta1")),
        ("ServiceMonitor", lambda m: m["spec"]["endpoints"][0].update(interval="often")),
        ("ServiceMonitor", lambda m: m["spec"]["endpoints"][0].update(interval="30s1h")),
        ("PrometheusRule", lambda m: m["spec"]["groups"][0]["rules"][0].pop("expr")),
        ("Certificate", lambda m: m["spec"].pop("issuerRef")),
    ],
)
def test_a_manifest_that_is_malformed_is_found_out(made: Made, kind: str, spoil: Spoil) -> None:
    manifest = copy.deepcopy(one(made["cert-manager"] if kind == "Certificate" else made["own"], kind))
    spoil(manifest)
    assert malformed(manifest)
