"""A host of its own, as far as names, addresses and time go: namespaces of Linux, with a DNS and a time server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from certs import make_pair
from rig import need

HERE, OTHER, PUBLIC, NOWHERE = "192.0.2.7", "192.0.2.8", "9.9.9.9", "192.0.2.99"  # all but the last are this machine's
SERVED = {
    "tunnels.test": {"A": [HERE]},
    "*.tunnels.test": {"A": [HERE]},
    "time.test": {"A": ["127.0.0.1"]},
    "ca.test": {"A": ["127.0.0.1"]},
}
Findings = dict[str, dict[str, str]]

_ENVIRONMENT = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG", "VIRTUAL_ENV")}
_TESTS = Path(__file__).parent
_SETUP = f"""
ip link set lo up
for address in {HERE} {OTHER} {PUBLIC}; do ip address add $address/32 dev lo; done
mount --bind "$1/resolv.conf" /etc/resolv.conf
mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf
mount --bind "$1/hosts" /etc/hosts
mount --bind "$1" "$1"
mkdir "$1/sealed" "$1/memory"
mount -t tmpfs -o ro none "$1/sealed"
mount -t tmpfs none "$1/memory"
echo ready
exec cat
"""


class PrivateHost:
    """Stands while entered, on a folder that lasts as a volume does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._enter: list[str] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for program in ("unshare", "nsenter", "ip", "mount"):
            need(program)
        (self.folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        (self.folder / "nsswitch.conf").write_text("hosts: files dns\n")
        (self.folder / "hosts").write_text("127.0.0.1 localhost\n")
        self._say({})
        make_pair(self.folder, "ca.test", stem="ca-server")
        with ExitStack() as stack:
            self._settle(stack)
            for program in ("names_and_time", "doctor_process"):
                words = (sys.executable, str(_TESTS / f"{program}.py"), str(self.folder))
                self._doctor = stack.enter_context(self.running(*words))
                assert self._doctor.stdout is not None and self._doctor.stdout.readline() == "ready\n"
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def _settle(self, stack: ExitStack) -> None:
        """Make the namespaces, which last as long as a program in them that reads what nobody writes."""
        own = ["unshare", "--user", "--map-root-user", "--mount", "--net", "sh", "-ec", _SETUP, "sh", str(self.folder)]
        holder = stack.enter_context(self.running(*own))
        assert holder.stdout is not None and holder.stderr is not None
        if holder.stdout.readline() != "ready\n":
            reason = f"no namespaces are to be had: {holder.stderr.read()}"
            pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
        target = ["--target", str(holder.pid), "--user", "--preserve-credentials", "--mount", "--net"]
        self._enter = ["nsenter", *target, "--"]

    @contextmanager
    def says(self, **changes: Any) -> Iterator[None]:
        """Have the servers say something else meanwhile; ``names`` are added, those that are ``None`` left out."""
        self._say(changes)
        yield
        self._say({})

    def _say(self, changes: dict[str, Any]) -> None:
        names = {name: value for name, value in (SERVED | changes.pop("names", {})).items() if value is not None}
        fresh = self.folder / "says.new"
        fresh.write_text(json.dumps({"names": names} | changes))
        fresh.rename(self.folder / "says.json")

    def command(self, *words: str, before: tuple[str, ...] = (), **environ: str) -> subprocess.CompletedProcess[str]:
        """Run the command here to its end; ``before`` is what runs it."""
        whole = [*self._enter, *before, sys.executable, "-m", "tunnel_server", *words]
        env = _ENVIRONMENT | environ
        return subprocess.run(whole, cwd=self.folder, env=env, capture_output=True, text=True, timeout=60)

    @contextmanager
    def running(self, *words: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
        """Have a program run here meanwhile."""
        pipe, env = subprocess.PIPE, _ENVIRONMENT | environ
        process = subprocess.Popen(
            [*self._enter, *words], cwd=self.folder, env=env, text=True, stdin=pipe, stdout=pipe, stderr=pipe
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    @contextmanager
    def server(self, **environ: str) -> Iterator[None]:
        """Have a tunnel server run here meanwhile."""
        with self.running(sys.executable, "-m", "tunnel_server", "run", **environ) as process:
            assert process.stderr is not None
            told = []
            while line := process.stderr.readline():
                told.append(line)
                if '"server.started"' in line:
                    break
            else:
                raise AssertionError("".join(told))
            yield

    def doctor(self, timeout: str = "2s", time_server: str = "time.test", **environ: str) -> tuple[int, Findings]:
        """Return the exit status and the findings, by check."""
        asked = {"timeout": timeout, "time_server": time_server, "environ": _ENVIRONMENT | environ}
        assert self._doctor.stdin is not None and self._doctor.stdout is not None and self._doctor.stderr is not None
        self._doctor.stdin.write(json.dumps(asked) + "\n")
        self._doctor.stdin.flush()
        line = self._doctor.stdout.readline()
        assert line, self._doctor.stderr.read()
        status, found = json.loads(line)
        return status, found
