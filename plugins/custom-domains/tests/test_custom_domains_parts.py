"""Fingerprints, records, budgets, settings and the map file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import asyncssh
import pytest
from tunnel_server_custom_domains.budget import MAX_SOURCES, Budget, network
from tunnel_server_custom_domains.fingerprints import MAX_RECORDS, fingerprint, named_in
from tunnel_server_custom_domains.mapfile import BadMap, HostMap, MapFile
from tunnel_server_custom_domains.metrics import Metrics
from tunnel_server_custom_domains.names import Domain
from tunnel_server_custom_domains.settings import name_servers

A = "SHA256:" + "A" * 43
B = "SHA256:" + "b" * 43


def test_a_fingerprint_is_the_one_that_ssh_keygen_prints(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    file = tmp_path / "key.pub"
    file.write_bytes(key.export_public_key())

    printed = subprocess.run(["ssh-keygen", "-lf", file], capture_output=True, text=True, check=True).stdout

    assert fingerprint(key.public_data) == printed.split()[1]


@pytest.mark.parametrize(
    ("records", "named"),
    [
        ([f"tunnel-server={A}"], {A}),
        ([f"tunnel-server={A} {B}"], {A, B}),
        ([f"tunnel-server={A}", f"TUNNEL-SERVER=sha256:{'b' * 43}="], {A, B}),
        ([f"tunnel-server={A} tunnel-server={B}"], {A, B}),
        ([A], set()),
        (["v=spf1 -all", ""], set()),
        (["tunnel-server="], set()),
        ([f"tunnel-server={A}x"], set()),
        ([f"tunnel-server={A[:-1]}"], set()),
        ([f"x tunnel-server={A}"], set()),
        ([f"tunnel-server={A},{B}"], set()),
        (["tunnel-server=MD5:00:11"], set()),
        (["tunnel-server=" + " " * 9000 + A], set()),
    ],
)
def test_a_record_names_the_keys_behind_its_mark(records: list[str], named: set[str]) -> None:
    assert named_in(records) == named


def test_an_answer_with_too_many_records_proves_nothing() -> None:
    assert named_in([f"tunnel-server={A}"] * MAX_RECORDS) == {A}
    assert named_in([f"tunnel-server={A}"] * (MAX_RECORDS + 1)) == frozenset()


def test_a_source_that_spent_its_lookups_gets_them_back_with_time() -> None:
    now = [0.0]
    budget = Budget(2, lambda: now[0])

    assert [budget.take("a"), budget.take("a"), budget.take("a"), budget.take("b")] == [True, True, False, True]
    now[0] = 30.0
    assert [budget.take("a"), budget.take("a")] == [True, False]


def test_a_look_up_that_one_source_cannot_pay_costs_the_other_nothing() -> None:
    budget = Budget(1, lambda: 0.0)

    assert budget.take("key", "address 1")
    assert not budget.take("key", "address 2")
    assert budget.take("address 2")


def test_the_budget_remembers_a_bounded_number_of_sources() -> None:
    budget = Budget(1, lambda: 0.0)

    for number in range(MAX_SOURCES + 10):
        budget.take(str(number))

    assert not budget.take(str(MAX_SOURCES))
    assert budget.take("0")


def test_an_ipv6_network_of_64_bits_is_one_source() -> None:
    assert network("2001:db8::1") == network("2001:db8:0:0:ffff::2")
    assert network("2001:db8::1") != network("2001:db8:0:1::1")
    assert network("::ffff:192.0.2.7") == network("192.0.2.7") == "192.0.2.7"
    assert network("fe80::1%eth0") == network("fe80::2")


def test_name_servers_are_addresses_with_or_without_a_port() -> None:
    read = name_servers("192.0.2.53, 192.0.2.54:5353 2001:db8::1 [2001:db8::1]:54")

    assert read == (("192.0.2.53", 53), ("192.0.2.54", 5353), ("2001:db8::1", 53), ("2001:db8::1", 54))
    assert name_servers(", ".join(map(str, read))) == read


@pytest.mark.parametrize("value", ["dns.example.com", "192.0.2.53:0", "192.0.2.53:x", "[::1", "1.2.3.4:70000"])
def test_a_name_server_that_is_no_address_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="not an address"):
        name_servers(value)


def test_a_map_gives_hosts_and_one_label_below_a_wildcard() -> None:
    found = HostMap.parse(f"# ours\napp.Example.com {A} {B} # both\n*.preview.example.com\t{A}\napp.example.com {A}\n")

    assert found.allows(Domain("app.example.com", "example.com"), B)
    assert found.allows(Domain("preview.example.com", "example.com", wildcard=True), A)
    assert found.allows(Domain("x.preview.example.com", "example.com"), A)
    assert not found.allows(Domain("y.x.preview.example.com", "example.com"), A)
    assert not found.allows(Domain("preview.example.com", "example.com"), A)
    assert not found.allows(Domain("x.preview.example.com", "example.com"), B)
    assert not found.allows(Domain("app.example.com", "example.com", wildcard=True), A)


@pytest.mark.parametrize("line", ["app.example.com", f"app {A}", f"a_b.example.com {A}", "app.example.com SHA256:x"])
def test_a_malformed_line_of_the_map_is_named(line: str) -> None:
    with pytest.raises(BadMap, match="line 2"):
        HostMap.parse("\n" + line)


async def test_a_map_that_changes_is_read_again_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    path, seen = tmp_path / "domains", []
    path.write_text(f"app.example.com {A}\n")
    file = MapFile(path, Metrics())
    file.load()

    path.write_text(f"app.example.com {A} {B}\n")
    await file.look(lambda *maps: seen.append(maps))
    path.write_text("app.example.com nonsense and more\n")
    await file.look(lambda *maps: seen.append(maps))
    path.unlink()
    await file.look(lambda *maps: seen.append(maps))

    assert len(seen) == 1
    assert file.map.keys == {"app.example.com": frozenset({A, B})}


async def test_a_map_behind_a_link_that_is_moved_is_read_again(tmp_path: Path) -> None:
    for name, key in ("one", A), ("two", B):
        (tmp_path / name).write_text(f"app.example.com {key}\n")
    link = tmp_path / "domains"
    link.symlink_to("one")
    file = MapFile(link, Metrics())
    file.load()

    (tmp_path / "new").symlink_to("two")
    os.replace(tmp_path / "new", link)
    await file.look(lambda *_: None)

    assert file.map.keys == {"app.example.com": frozenset({B})}


def test_a_map_that_cannot_be_used_at_the_start_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"\xff\xfe")

    for path in (tmp_path / "missing", tmp_path, tmp_path / "latin"):
        with pytest.raises(BadMap):
            MapFile(path, Metrics()).load()
