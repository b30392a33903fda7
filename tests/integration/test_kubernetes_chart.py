"""The Helm chart: which values it takes, and what of them makes another pod."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import CHART, charted, one, pod, program, run


def test_a_new_certificate_is_no_new_pod(tmp_path: Path) -> None:
    before, after = (charted({"tls": {"certificate": text, "key": text}}, tmp_path) for text in ("one", "another"))

    assert one(before, "Secret") != one(after, "Secret")
    assert one(before, "Deployment") == one(after, "Deployment")


@pytest.mark.parametrize(
    "changed",
    [
        {"settings": {"TUNNEL_SERVER_ACCESS_LOG": True}},
        {"cookies": {"secrets": "b"}},
        {"baseUrl": "https://b.example.com"},
    ],
)
def test_what_is_read_at_the_start_is_a_new_pod(changed: dict[str, Any], tmp_path: Path) -> None:
    before, after = (charted(values, tmp_path) for values in ({"cookies": {"secrets": "a"}}, changed))
    assert one(before, "Deployment")["spec"]["template"] != one(after, "Deployment")["spec"]["template"]


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ({}, 5),
        ({"service": {"type": "NodePort"}}, 20),
        ({"service": {"type": "LoadBalancer"}}, 20),
        ({"service": {"type": "LoadBalancer", "externalTrafficPolicy": "Cluster"}}, 5),
        ({"service": {"type": "LoadBalancer"}, "preStopSeconds": 40}, 40),
    ],
)
def test_ports_stay_open_until_the_balancer_has_noticed(values: dict[str, Any], seconds: int, tmp_path: Path) -> None:
    spec = pod(charted(values, tmp_path))

    assert spec["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": seconds}}}
    assert spec["terminationGracePeriodSeconds"] == seconds + 15 + 10


def test_egress_that_is_said_is_not_widened_for_acme(tmp_path: Path) -> None:
    ours = [{"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}], "ports": [{"port": 9000}]}]

    values = {"settings": {"TUNNEL_SERVER_ACME": "https://ca.internal:9000"}, "networkPolicy": {"egress": ours}}

    assert one(charted(values, tmp_path), "NetworkPolicy")["spec"]["egress"] == ours


def test_the_chart_has_no_fault_that_helm_knows() -> None:
    assert "0 chart(s) failed" in run("helm", "lint", "--strict", str(CHART))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"baseurl": "http://a"}, "baseurl"),
        ({"baseUrl": "tunnels.example.com"}, "baseUrl"),
        ({"baseUrl": "https://tunnels.example.com/path"}, "baseUrl"),
        ({"service": {"ports": {"http": 70000}}}, "http"),
        ({"service": {"type": "Loadbalancer"}}, "type"),
        ({"settings": {"access_log": "true"}}, "access_log"),
        ({"settings": {"TUNNEL_SERVER_HOOK_TIMEOUT": 0.5}}, "TUNNEL_SERVER_HOOK_TIMEOUT"),
        ({"hostKey": {"existingSecret": "a", "privateKey": "b"}}, "hostKey"),
        ({"cookies": {"existingSecret": "a", "secrets": "b"}}, "cookies"),
        ({"tls": {"existingSecret": "a", "certificate": "b", "key": "c"}}, "tls"),
        ({"tls": {"certificate": "b"}}, "key"),
        ({"tls": {"key": "b"}}, "key"),
        ({"tls": {"certManager": {"enabled": True}}}, "issuer"),
        ({"tls": {"existingSecret": "a", "certManager": {"enabled": True, "issuer": {"name": "b"}}}}, "tls"),
        ({"graceSeconds": "15s"}, "graceSeconds"),
        ({"persistence": {"size": "big"}}, "size"),
        ({"preStopSeconds": "20"}, "preStopSeconds"),
        ({"networkPolicy": {"metricsNamespace": []}}, "metricsNamespace"),  # from nobody would mean: from anywhere
        ({"networkPolicy": {"metricsNamespace": ["monitoring", ""]}}, "metricsNamespace"),
        ({"service": {"ipFamilies": ["IPv5"]}}, "ipFamilies"),
        ({"service": {"ipFamilyPolicy": "DualStack"}}, "ipFamilyPolicy"),
        ({"extraPorts": [{"name": "dns", "port": 53, "containerPort": 8053}]}, "protocol"),
        ({"extraPorts": [{"name": "metrics", "port": 8888, "containerPort": 8888, "protocol": "TCP"}]}, "name"),
        ({"monitoring": {"interval": "30s1h"}}, "interval"),
    ],
)
def test_the_chart_refuses_values_that_are_wrong_and_names_them(
    values: dict[str, Any], named: str, tmp_path: Path
) -> None:
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))

    command = [program("helm"), "template", str(CHART), "-f", str(tmp_path / "values.yaml")]
    said = subprocess.run(command, capture_output=True, text=True)

    assert said.returncode != 0
    assert "don't meet the specifications of the schema" in said.stderr
    assert named in said.stderr


@pytest.mark.parametrize("name", ["BASE_URL", "TUNNEL_SERVER_GRACE_PERIOD", "SSH_PORT", "TUNNEL_SERVER_PORT"])
def test_what_the_chart_sets_itself_is_no_setting_of_its_values(name: str) -> None:
    command = [program("helm"), "template", str(CHART), "--set", f"settings.{name}=1"]
    said = subprocess.run(command, capture_output=True, text=True)

    assert said.returncode != 0
    assert f"settings.{name}: " in said.stderr


def test_the_chart_says_what_would_be_lost_and_what_to_type() -> None:
    if run("helm", "version", "--short").startswith("v3"):
        pytest.skip("Helm 3 tells its notes to a cluster only")
    bare = run("helm", "install", "tunnel-server", str(CHART), "--dry-run=client")
    assert "the host key is lost with the pod" in bare
    assert "sessions on private tunnels end with the pod" in bare
    assert "ssh -p 2222 -R /my-tunnel:localhost:5000 localhost hello" in bare

    words = ["hostKey.existingSecret=a", "cookies.existingSecret=b", "baseUrl=https://tunnels.example.com"]
    kept = run("helm", "install", "t", str(CHART), "--dry-run=client", *(w for s in words for w in ("--set", s)))
    notes = kept.partition("NOTES:")[2]
    assert "lost" not in notes
    assert "nothing here has a certificate" in notes
    assert "ssh -p 22 -R /my-tunnel:localhost:5000 tunnels.example.com hello" in notes
