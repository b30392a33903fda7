"""The server with little: memory, processes, rights, nothing to write to, a user that nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest
from peers import HOST, PrivateNetwork, Visitor

LOAD = (Path(__file__).parent / "load.py").read_text()
# Where the engine's cgroups are of version 2, and of version 1.
KILLED = "cat /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control 2>/dev/null | grep '^oom_kill '"
LITTLE = {"mem_limit": "192m", "memswap_limit": "192m", "pids_limit": 32}
NO_RIGHTS = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]}


@pytest.mark.usefixtures("app")
def test_load_does_not_take_it_over_its_limits_of_memory_and_processes(
    network: PrivateNetwork, visitor: Visitor, key: bytes
) -> None:
    server = network.server(**LITTLE).started()
    url = network.client(key).url()

    answered = visitor.run("python3", "-c", LOAD, HOST, url)

    assert answered == "1000 answered"
    assert visitor.get(url).status == 200
    assert server.run("sh", "-c", KILLED) == "oom_kill 0"
    assert server.state["Running"] and not server.state["OOMKilled"]


@pytest.mark.parametrize("user", ["10001:10001", "1000680000:0"], ids=["its own user", "a user as OpenShift has them"])
@pytest.mark.usefixtures("app")
def test_it_serves_and_keeps_its_key_without_rights_and_with_nothing_else_to_write_to(
    network: PrivateNetwork, visitor: Visitor, key: bytes, volume: str, user: str
) -> None:
    server = network.server(**NO_RIGHTS, user=user, volumes=[(volume, "/data", "rw")]).started()

    assert visitor.get(network.client(key).url()).status == 200
    rights = dict(line.split(":\t") for line in server.run("cat", "/proc/1/status").splitlines() if "\t" in line)
    assert (rights["CapEff"], rights["NoNewPrivs"]) == ("0" * 16, "1")
    assert server.run("id", "-u") == user.partition(":")[0]
    assert "Read-only" in server.tried("touch", "/opt/tunnel-server/new").stderr
    assert server.run("stat", "-c", "%a %u", "/data/ssh/ssh_host_key") == f"600 {user.partition(':')[0]}"
