"""A pod's container run by Docker as the kubelet would: users, mounts, secrets, variables, probes."""

from __future__ import annotations

import base64
import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from containers import LABEL, docker, published, wait_until
from kubernetes import Manifest, one, pod
from rig import need

# What an OpenShift cluster chooses where the manifest leaves it open.
CHOSEN = {"runAsUser": 1000680000, "runAsGroup": 0, "fsGroup": 1000680000}
# What every pod is told of the cluster, whatever the manifest says.
CLUSTER = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_PORT": "tcp://10.96.0.1:443"}
# A secret's files are links to those in a folder, which a link names that is replaced at once.
_WRITE_SECRET = """
import base64, json, os, sys, time
files, group = json.load(sys.stdin)
folder = f"..{time.time_ns()}"
os.chmod(".", 0o3777)
os.mkdir(folder, 0o755)
for name, value in files.items():
    with open(f"{folder}/{name}", "wb") as file:
        file.write(base64.b64decode(value))
    os.chown(f"{folder}/{name}", 0, group)
    os.chmod(f"{folder}/{name}", 0o440)
os.symlink(folder, "..data_tmp")
os.replace("..data_tmp", "..data")
for name in files:
    if not os.path.islink(name):
        os.symlink(f"..data/{name}", name)
"""


class Pod:
    """The server's pod of ``manifests``, with the project's image."""

    def __init__(self, manifests: list[Manifest], image: str) -> None:
        self.spec = pod(manifests)
        (self.container,) = self.spec["containers"]
        self._manifests = manifests
        self._image = image
        self._secrets = {v["name"]: docker("volume", "create", "--label", LABEL) for v in self._volumes("secret")}
        self._user = CHOSEN | self.spec["securityContext"]

    def start(self) -> None:
        """Start it, and return when its startup probe has passed, within the time that has."""
        for volume in self._volumes("secret"):
            self.write(volume["name"], one(self._manifests, "Secret", volume["secret"]["secretName"])["data"])
        self.id = docker("run", "-d", *self._options(), self._image)
        probe = self.container["startupProbe"]
        limit = probe["periodSeconds"] * probe["failureThreshold"]
        wait_until(lambda: self._ended() or self.passes("startupProbe"), "the startup probe passes", limit)
        assert not self._ended(), self._ended()

    def write(self, volume: str, data: Mapping[str, str]) -> None:
        """Put files into a secret's volume, as the kubelet does when the secret is new or changed."""
        into = ["-v", f"{self._secrets[volume]}:/secret", "-w", "/secret", "--entrypoint", "python", self._image]
        words = ["run", "--rm", "-i", "--user", "0", "--label", LABEL, *into, "-c", _WRITE_SECRET]
        docker(*words, text=json.dumps([dict(data), self._user["fsGroup"]]))

    def passes(self, probe: str) -> bool:
        """Return whether a probe passes now."""
        get = self.container[probe]["httpGet"]
        request = urllib.request.Request(f"http://127.0.0.1:{self.port(get['port'])}{get['path']}")
        request.add_header("Host", f"10.244.0.7:{self._number(get['port'])}")  # the pod's own address
        try:
            with urllib.request.urlopen(request, timeout=self.container[probe].get("timeoutSeconds", 1)) as answer:
                return bool(200 <= answer.status < 400)
        except (urllib.error.URLError, OSError):
            return False

    def port(self, name: str) -> int:
        """Return the port of this machine that leads to the container's port of this name."""
        try:
            return published(self.id, self._number(name))
        except AssertionError:  # of a container that has ended, none is published
            assert not (said := self._ended()), said
            raise

    def stop(self) -> tuple[int, float]:
        """Stop it in the time that the preStop leaves; return the exit status and how long it took."""
        left = self.spec["terminationGracePeriodSeconds"] - self.container["lifecycle"]["preStop"]["sleep"]["seconds"]
        began = time.monotonic()
        docker("stop", "-t", str(left), self.id)
        return int(docker("inspect", "-f", "{{.State.ExitCode}}", self.id)), time.monotonic() - began

    def _ended(self) -> str:
        """Return what the container said, if it runs no longer."""
        if docker("inspect", "-f", "{{.State.Running}}", self.id) == "true":
            return ""
        said = subprocess.run([need("docker"), "logs", self.id], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return f"it ended: {said.stdout.decode()}"

    def _number(self, name: str) -> int:
        return next(int(port["containerPort"]) for port in self.container["ports"] if port["name"] == name)

    def _volumes(self, kind: str) -> list[Manifest]:
        return [volume for volume in self.spec["volumes"] if kind in volume]

    def _options(self) -> list[str]:
        its, user = self.container["securityContext"], self._user
        words = ["--label", LABEL, "--no-healthcheck", "--memory", self.container["resources"]["limits"]["memory"][:-1]]
        words += ["--user", f"{user['runAsUser']}:{user['runAsGroup']}", "--group-add", str(user["fsGroup"])]
        words += [word for what in its["capabilities"]["drop"] for word in ("--cap-drop", what)]
        words += ["--read-only"] if its["readOnlyRootFilesystem"] else []
        words += [] if its["allowPrivilegeEscalation"] else ["--security-opt", "no-new-privileges"]
        words += [word for port in self.container["ports"] for word in ("-p", f"127.0.0.1::{port['containerPort']}")]
        words += [word for name, value in self._variables().items() for word in ("-e", f"{name}={value}")]
        empty = {volume["name"] for volume in self._volumes("emptyDir")}
        for mount in self.container["volumeMounts"]:
            if mount["name"] in empty:
                words += ["--tmpfs", f"{mount['mountPath']}:mode=2777,gid={user['fsGroup']}"]
            else:
                words += ["-v", f"{self._secrets[mount['name']]}:{mount['mountPath']}:ro"]
        return words

    def _variables(self) -> dict[str, str]:
        found = dict(CLUSTER)
        for source in self.container["envFrom"]:
            found |= one(self._manifests, "ConfigMap", source["configMapRef"]["name"])["data"]
        for variable in self.container["env"]:
            found[variable["name"]] = variable["value"] if "value" in variable else self._secret(variable["valueFrom"])
        return found

    def _secret(self, source: dict[str, Any]) -> str:
        wanted = source["secretKeyRef"]
        value = one(self._manifests, "Secret", wanted["name"])["data"][wanted["key"]]
        return base64.b64decode(value).decode()
