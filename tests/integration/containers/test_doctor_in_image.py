"""`tunnel-server doctor` in the server's image, by users that its list of users does not have."""

from __future__ import annotations

import json

import pytest
from peers import HOST, PrivateNetwork, Server

NOT_HERE = {"port tls", "certificate", "certificate chain", "acme"}  # what such a server does not have
NO_NAMES = {"dns base", "dns wildcard", "dns auth", "dns api"}  # localhost is an address rather


def verdicts(server: Server, *words: str) -> tuple[int, dict[str, str]]:
    """Return the exit status and the verdicts, by check, of doctor without a home and a time server."""
    command = ("env", "-u", "HOME", "tunnel-server", "doctor", "--json", "--time-server", "none", *words)
    done = server.tried(*command)
    assert done.stdout, done.stderr
    found = {each["check"]: each["verdict"] for each in json.loads(done.stdout)}
    del found["clock"]  # as this machine's
    return done.returncode, found


@pytest.mark.parametrize("user", ["10001:10001", "54321:54321"])
def test_all_that_can_be_well_is_well_whoever_runs_it(network: PrivateNetwork, volume: str, user: str) -> None:
    environ = {"BASE_URL": "http://localhost:3000", "COOKIE_SECRETS": "0123456789abcdef0123456789abcdef"}
    server = network.server(environ=environ, user=user, volumes=[(volume, "/data", "rw")]).started()

    status, found = verdicts(server)
    by_name_status, by_name = verdicts(server, "--base-url", f"http://{HOST}:3000")

    assert {check for check, verdict in found.items() if verdict != "ok"} == NOT_HERE | NO_NAMES
    assert set(found.values()) == {"ok", "skipped"}
    assert by_name["dns base"] == by_name["reach base"] == by_name["reach ssh"] == "ok"
    assert [check for check, verdict in by_name.items() if verdict == "failed"] == ["dns wildcard"]
    assert (status, by_name_status) == (0, 1)
