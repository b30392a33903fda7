"""The plugin as a whole: its start, its files, its rounds, its stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from quotas_kit import Bench, client, end, passes, refused, tunnel
from tunnel_server_quotas import Quotas, upkeep

ALICE = client("alice")
WEB = tunnel(ALICE, "web")


async def test_the_bytes_of_the_day_outlive_a_restart(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"bytes_per_day": 1000, "state_file": str(tmp_path / "state")}
    before = await Bench(**settings).start()
    end(passes(before.policy(WEB)), octets=1000)
    await before.plugin.shutdown()

    after = Bench(**settings)

    assert refused(after.policy(WEB)) == (429, "43200")


async def test_without_a_state_file_they_begin_at_nothing() -> None:
    before = await Bench(bytes_per_day=1000).start()
    end(passes(before.policy(WEB)), octets=1000)
    await before.plugin.shutdown()

    passes(Bench(bytes_per_day=1000).policy(WEB))


async def test_nothing_is_written_when_nothing_changed(tmp_path: Path) -> None:
    path = tmp_path / "state"
    bench = await Bench(bytes_per_day=1000, state_file=str(path)).start()
    path.unlink()

    await bench.plugin._upkeep.save()
    assert not path.exists()

    end(passes(bench.policy(WEB)), octets=5)
    await bench.plugin._upkeep.save()
    assert path.exists()


async def test_a_state_file_that_cannot_be_written_is_counted_and_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    bench = await Bench(bytes_per_day=1000, state_file=str(folder / "state")).start()
    assert bench.counted("file_failures_total", file="state") == 1

    folder.mkdir()
    await bench.plugin._upkeep.save()

    assert (folder / "state").exists()
    assert bench.counted("file_failures_total", file="state") == 1


def test_a_state_file_that_is_another_file_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_text("precious")

    with pytest.raises(ValueError, match="is not a state file of quotas"):
        Bench(state_file=str(path))

    assert path.read_text() == "precious"


def test_an_exceptions_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"No such file.*quotas\.toml"):
        Bench(exceptions_file=str(tmp_path / "quotas.toml"))


async def test_changed_exceptions_hold_for_live_tunnels_from_the_next_round(tmp_path: Path) -> None:
    path = tmp_path / "quotas.toml"
    path.write_text("")
    bench = await Bench(exceptions_file=str(path)).start()
    policy = bench.policy(WEB)
    for name in ("web", "api"):
        bench.clock.now += 1
        bench.open(ALICE, name)
    passes(policy)

    path.write_text(f"[{ALICE.id}]\nconcurrent_requests_per_key = 1\ntunnels_per_key = 1\n")
    await bench.plugin._upkeep.round()

    assert refused(policy) == (503, "1")
    assert [label for label, _ in bench.server.closed] == ["api"]


async def test_exceptions_that_go_wrong_are_counted_and_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "quotas.toml"
    path.write_text(f"[{ALICE.id}]\nconcurrent_requests_per_key = 1\n")
    bench = await Bench(exceptions_file=str(path)).start()
    policy = bench.policy(WEB)
    path.write_text("[[[")

    await bench.plugin._upkeep.round()
    await bench.plugin._upkeep.round()

    passes(policy)
    refused(policy)
    assert bench.counted("file_failures_total", file="exceptions") == 1


async def test_a_round_that_fails_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = await Bench().start()
    rounds = []

    async def fail() -> None:
        rounds.append(1)
        if len(rounds) == 3:
            raise KeyboardInterrupt
        raise ValueError("no")

    monkeypatch.setattr(upkeep, "EVERY", 0)
    monkeypatch.setattr(bench.plugin._upkeep, "round", fail)

    with pytest.raises(KeyboardInterrupt):
        await bench.plugin._upkeep.run()

    assert len(rounds) == 3


async def test_rounds_are_run_by_the_server() -> None:
    bench = await Bench().start()

    assert [getattr(work, "__qualname__", "") for work in bench.server.spawned] == ["Upkeep.run"]


def test_every_metric_is_there_from_the_start_and_has_no_label_of_a_client() -> None:
    samples = [
        sample
        for collector in Quotas().register_metrics()
        for family in collector.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    ]

    assert {sample.name.removeprefix("tunnel_server_quotas_") for sample in samples} == {
        "refused_total",
        "closed_tunnels_total",
        "file_failures_total",
        "shared_total",
        "running_requests",
        "meters",
        "keys",
        "keys_of_the_day",
    }
    assert {label for sample in samples for label in sample.labels} == {"limit", "kind", "file"}
    assert sum(sample.name.endswith("refused_total") for sample in samples) == 8
