"""All that is made of deploy/kubernetes for the tests: each kustomization, and the chart with many values."""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import Any

from certs import Pair
from kubernetes import HOME, Manifest, charted, kustomized
from rig import need

Made = dict[str, list[Manifest]]

README = (HOME / "README.md").read_text()
OVERLAYS = sorted(folder.name for folder in (HOME / "overlays").iterdir())
OPENSHIFT = """
resources: [../tls]
components: [../../components/openshift]
"""
DNS_CHALLENGE = """
resources: [../acme]
components: [../../components/dns-challenge]
"""
DNS_PORTS = [
    {"name": "dns", "port": 53, "containerPort": 8053, "protocol": "UDP"},
    {"name": "dns-tcp", "port": 53, "containerPort": 8053, "protocol": "TCP"},
]
SECRETS = {
    "hostKey": {"existingSecret": "tunnel-server-ssh"},
    "cookies": {"existingSecret": "tunnel-server-cookies"},
    "tls": {"existingSecret": "tunnel-server-tls"},
}
BASE = {"hostKey": SECRETS["hostKey"], "cookies": SECRETS["cookies"], "baseUrl": "http://localhost:3000"}
HTTPS = {"baseUrl": "https://tunnels.example.com"}
CHARTS: dict[str, dict[str, Any]] = {
    "chart": {},
    "chart as base": BASE,
    "chart as tls": SECRETS | HTTPS | {"service": {"type": "LoadBalancer", "ports": {"ssh": None}}},
    "chart with texts": HTTPS
    | {"hostKey": {"privateKey": "a\nb"}, "cookies": {"secrets": "c"}, "tls": {"certificate": "d\n", "key": "e\n"}},
    "chart with cert-manager": HTTPS
    | {"tls": {"certManager": {"enabled": True, "issuer": {"name": "ours"}}}, "monitoring": {"enabled": True}},
    "chart with an ingress": HTTPS
    | {"tls": SECRETS["tls"], "service": {"type": "LoadBalancer"}}
    | {"ingress": {"enabled": True, "className": "ours", "annotations": {"a/b": "c"}}},
    "chart with a volume": {
        "persistence": {"enabled": True, "storageClass": "quick"},
        "networkPolicy": {"egress": [{"ports": [{"port": 443}]}]},
        "podDisruptionBudget": {"enabled": False},
        "preStopSeconds": 0,
        "graceSeconds": 120,
        "settings": {
            "TUNNEL_SERVER_MAX_VISITORS": 1000000,
            "TUNNEL_SERVER_ACCESS_LOG": True,
            "TUNNEL_SERVER_LOG_FORMAT": "json",
        },
    },
    "chart as acme": BASE
    | HTTPS
    | {
        "settings": {"TUNNEL_SERVER_ACME": "letsencrypt", "TUNNEL_SERVER_ACME_HOSTS": "tunnels.example.com"},
        "persistence": {"enabled": True},
        "extraPorts": DNS_PORTS,
        "service": {
            "type": "LoadBalancer",
            "loadBalancerClass": "ours.example.com/public",
            "ipFamilyPolicy": "PreferDualStack",
            "ipFamilies": ["IPv6", "IPv4"],
        },
    },
    "chart on OpenShift": BASE | {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}},
    "chart with everything else": {
        "image": {"repository": "registry.example.com/ours", "tag": "9", "pullSecrets": ["login"]},
        "monitoring": {"enabled": True, "labels": {"release": "prometheus"}},
        "networkPolicy": {"metricsNamespace": ["monitoring", "ours"]},
        "serviceAccount": {"annotations": {"a/b": "c"}},
        "podAnnotations": {"a/b": "c"},
        "podLabels": {"a": "b"},
        "priorityClassName": "high",
        "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "extraEnv": [{"name": "TUNNEL_SERVER_PLUGINS_DIR", "value": "/plugins"}],
        "extraEnvFrom": [{"secretRef": {"name": "of-plugins"}}],
        "extraVolumes": [{"name": "plugins", "configMap": {"name": "plugins"}}],
        "extraVolumeMounts": [{"name": "plugins", "mountPath": "/plugins"}],
    },
}
# What manifests may refer to without making it: the cluster has it.
THERE = {"tunnel-server-ssh", "tunnel-server-cookies", "tunnel-server-tls", "of-plugins", "plugins", "login"}


def charts(folder: Path) -> Made:
    """Return what the chart makes of each of the values above; ``folder`` is for its files."""
    return {name: charted(values, folder) for name, values in CHARTS.items()}


def kustomizations(root: Path, pair: Pair) -> Made:
    """Return what is made of each kustomization, in ``root``, with files from the README's own commands."""
    home = root / "deploy" / "kubernetes"
    shutil.copytree(HOME, home, ignore=shutil.ignore_patterns(*(HOME / ".gitignore").read_text().split()))
    overlays = home / "overlays"
    _follow(_block("fullchain.pem"), overlays / "tls", pair)
    for overlay in set(OVERLAYS) - {"tls"}:
        shutil.copy(overlays / overlay / "config.example.env", overlays / overlay / "config.env")
        for file in ("ssh_host_key", "cookie_secret", "tls.crt", "tls.key"):
            shutil.copy(overlays / "tls" / file, overlays / overlay / file)
    for more, text in (("openshift", OPENSHIFT), ("dns-challenge", DNS_CHALLENGE)):
        (overlays / more).mkdir()
        (overlays / more / "kustomization.yaml").write_text(text)
    (root / "kustomization.yaml").write_text(textwrap.dedent(_block("newName")))
    folders = {overlay: overlays / overlay for overlay in OVERLAYS}
    folders |= {
        "base": home / "base",
        "own": root,
        "OpenShift": overlays / "openshift",
        "DNS": overlays / "dns-challenge",
    }
    return {name: kustomized(folder) for name, folder in folders.items()}


def _block(words: str) -> str:
    """Return the README's indented block that has these words."""
    (found,) = [block for block in re.findall(r"(?:^    .*\n)+", README, re.MULTILINE) if words in block]
    return str(found)


def _follow(block: str, folder: Path, pair: Pair) -> None:
    """Run a block's commands, but for kubectl's; the certificate is the test's."""
    need("ssh-keygen"), need("openssl")
    for theirs, ours in (("/path/to/fullchain.pem", pair.cert), ("/path/to/privkey.pem", pair.key)):
        assert theirs in block
        block = block.replace(theirs, str(ours))
    script = "set -eu\n" + re.sub(r"^ *kubectl .*$", "", block, flags=re.MULTILINE)
    subprocess.run(["bash", "-c", script], cwd=folder, check=True, capture_output=True)
