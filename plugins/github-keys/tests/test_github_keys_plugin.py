"""The plugin's hooks against a local forge, called as the server calls them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs
from tunnel_server_github_keys import GitHubKeys
from tunnel_server_github_keys import rounds as rounds_module

from tunnel_server import Accept, Client, Reject

NewPerson = Callable[..., Any]
Running = Callable[..., Any]
LIMIT = 20.0  # seconds
ORG = "/orgs/acme/members"
GROUP = "/api/v4/groups/acme/tools/members/all"


def configured(forge: Any, **settings: object) -> GitHubKeys:
    plugin = GitHubKeys()
    values = {setting.name: setting.default for setting in plugin.register_settings()}
    urls = {"url": forge.url, "api_url": forge.url, "gitlab_url": forge.url}
    plugin.configure(values | urls | {"cache": ""} | settings)
    return plugin


@pytest.fixture
def running(forge: Any, fake_server: Any) -> Running:
    """Return a context manager that runs the plugin beside the forge."""

    @asynccontextmanager
    async def run(**settings: object) -> AsyncIterator[GitHubKeys]:
        plugin = configured(forge, **settings)
        await plugin.startup(fake_server)
        try:
            yield plugin
        finally:
            await fake_server.stop()
            await plugin.shutdown()

    return run


async def answer(plugin: GitHubKeys, client: Client) -> Accept | Reject | None:
    async with asyncio.timeout(LIMIT):
        return await plugin.authenticate_client(client)


async def admitted(plugin: GitHubKeys, client: Client) -> Client:
    accepted = await answer(plugin, client)
    assert isinstance(accepted, Accept)
    return replace(client, attributes=accepted.attributes)


async def another_round(plugin: GitHubKeys) -> None:
    """Run one round now, as an unknown key would."""
    plugin._rounds._wake.set()
    assert await plugin._rounds.finished(LIMIT)


def metric(plugin: GitHubKeys, name: str, **labels: str) -> float:
    found: float = next(
        sample.value
        for collector in plugin.register_metrics()
        for family in collector.collect()
        for sample in family.samples
        if sample.name == f"tunnel_server_github_keys_{name}" and labels.items() <= sample.labels.items()
    )
    return found


async def test_the_keys_of_named_users_are_admitted_and_others_refused(
    forge: Any, running: Running, new_person: NewPerson
) -> None:
    ada, jane, eve = new_person(), new_person("ecdsa-sha2-nistp521"), new_person()
    forge.keys = {"ada": [ada.public], "jane": [f"{jane.public} jane"], "eve": [eve.public]}

    async with running(users=("ada",), gitlab_users=("jane",)) as plugin:
        first = await answer(plugin, ada.client())
        second = await answer(plugin, jane.client())
        third = await answer(plugin, eve.client())

    assert isinstance(first, Accept)
    assert first.attributes == {"github-keys.user": "ada", "github-keys.source": "github"}
    assert isinstance(second, Accept)
    assert second.attributes == {"github-keys.user": "jane", "github-keys.source": "gitlab"}
    assert isinstance(third, Reject)
    assert metric(plugin, "keys") == 2


async def test_members_of_all_pages_are_admitted_and_the_token_goes_to_the_api_alone(
    forge: Any, running: Running, new_person: NewPerson
) -> None:
    people = {f"user{number}": new_person() for number in range(3)}
    forge.keys = {name: [person.public] for name, person in people.items()}
    forge.groups = {
        ORG: [[{"login": "user0"}], [{"login": "user1"}, {"login": "../evil"}]],
        GROUP: [[{"username": "user2", "state": "active"}, {"username": "gone", "state": "blocked"}]],
    }

    async with running(organisations=("acme",), gitlab_groups=("acme/tools",), token="a", gitlab_token="b") as plugin:
        for person in people.values():
            assert isinstance(await answer(plugin, person.client()), Accept)

    tokens = {(r.headers.get("Authorization"), r.headers.get("PRIVATE-TOKEN")) for r in forge.asked if "keys" in r.path}
    assert tokens == {(None, None)}
    asked = {r.path: (r.headers.get("Authorization"), r.headers.get("PRIVATE-TOKEN")) for r in forge.asked}
    assert asked[ORG] == ("Bearer a", None)
    assert asked[GROUP] == (None, "b")
    assert not any("evil" in path or "gone" in path for path in forge.paths)


async def test_who_leaves_or_removes_a_key_is_disconnected_at_the_next_round(
    forge: Any, running: Running, fake_server: Any, new_person: NewPerson
) -> None:
    ada, bob, cid, guest = new_person(), new_person(), new_person(), new_person()
    forge.keys = {"ada": [ada.public], "bob": [bob.public], "cid": [cid.public]}
    forge.groups = {ORG: [[{"login": "ada"}, {"login": "bob"}, {"login": "cid"}]]}

    with capture_logs() as logs:
        async with running(organisations=("acme",)) as plugin:
            fake_server.live = [await admitted(plugin, person.client()) for person in (ada, bob, cid)] + [
                guest.client()
            ]
            gone = fake_server.live[0]
            forge.keys["ada"] = []
            forge.groups[ORG] = [[{"login": "ada"}, {"login": "cid"}]]
            await another_round(plugin)

            assert [client.public_key for client in fake_server.live] == [cid.blob, guest.blob]
            assert isinstance(plugin.authorize_tunnel(gone), Reject)
            assert plugin.authorize_tunnel(fake_server.live[0]) is None
            assert plugin.authorize_tunnel(guest.client()) is None
    assert metric(plugin, "ended_total") == 2
    assert fake_server.asked == 2  # one judgement a round, each to its end
    assert not any(entry["log_level"] == "error" for entry in logs)


async def test_a_user_who_is_gone_has_no_keys(forge: Any, running: Running, new_person: NewPerson) -> None:
    ada = new_person()
    forge.keys = {"ada": [ada.public]}

    async with running(users=("ada",), recheck=0.0) as plugin:
        await admitted(plugin, ada.client())
        forge.keys.clear()
        await another_round(plugin)

        assert isinstance(await answer(plugin, ada.client()), Reject)


async def test_what_has_not_changed_is_not_sent_again(forge: Any, running: Running, new_person: NewPerson) -> None:
    ada = new_person()
    forge.keys = {"ada": [ada.public]}
    forge.groups = {ORG: [[{"login": "ada"}]]}

    async with running(organisations=("acme",)) as plugin:
        await another_round(plugin)

        assert forge.answers == [200, 200, 304, 304]
        await admitted(plugin, ada.client())
        assert metric(plugin, "requests_total", source="github", outcome="same") == 2


def fail(status: int, **headers: str) -> Callable[[web.Request], web.Response]:
    return lambda _: web.Response(status=status, text="oops", headers=headers)


async def _hang(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize(
    "behaviour",
    [
        fail(500),
        fail(401),
        fail(302, Location="/login"),
        fail(200),
        fail(403, **{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "99999999999"}),
        fail(429, **{"Retry-After": "600"}),
        lambda _: web.Response(body=b"x" * (4 << 20)),
        _hang,
        "down",
    ],
    ids=["500", "401", "login page", "nonsense", "403 limit", "429", "huge", "slow", "down"],
)
async def test_an_outage_of_any_kind_takes_nobodys_key(
    forge: Any, running: Running, fake_server: Any, new_person: NewPerson, behaviour: Any
) -> None:
    ada = new_person()
    forge.keys = {"ada": [ada.public]}
    forge.groups = {ORG: [[{"login": "ada"}]]}

    async with running(organisations=("acme",), users=("bob",)) as plugin:
        plugin._fetcher._session._timeout = replace_total(plugin, 0.3)
        fake_server.live = [await admitted(plugin, ada.client())]
        if behaviour == "down":
            await forge.go_down()
        else:
            forge.behave = behaviour
        await another_round(plugin)

        assert len(fake_server.live) == 1
        await admitted(plugin, ada.client())
        assert metric(plugin, "rounds_total", outcome="incomplete") == 1


def replace_total(plugin: GitHubKeys, seconds: float) -> Any:
    import attrs

    return attrs.evolve(plugin._fetcher._session._timeout, total=seconds)  # type: ignore[union-attr]


async def test_keys_grow_too_old_in_a_long_outage(
    forge: Any, running: Running, fake_server: Any, new_person: NewPerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = new_person()
    forge.keys = {"ada": [ada.public]}

    async with running(users=("ada",), max_stale=3600.0) as plugin:
        fake_server.live = [await admitted(plugin, ada.client())]
        await forge.go_down()
        later = time.time() + 3601
        monkeypatch.setattr(time, "time", lambda: later)
        assert isinstance(await answer(plugin, ada.client()), Reject)
        await another_round(plugin)

    assert not fake_server.live
    assert metric(plugin, "keys") == 1


async def test_a_forge_that_wants_a_pause_gets_one(forge: Any, running: Running) -> None:
    forge.behave = fail(429, **{"Retry-After": "600"})

    async with running(users=tuple("abcdefgh")) as plugin:
        asked = len(forge.asked)
        await another_round(plugin)
        await another_round(plugin)

        assert len(forge.asked) == asked <= 4


async def test_a_forge_that_fails_is_left_alone_after_some_questions_and_the_other_is_asked(
    forge: Any, running: Running, new_person: NewPerson
) -> None:
    jane = new_person()
    forge.keys = {"jane": [jane.public]}
    forge.behave = lambda request: None if "jane" in request.path else web.Response(status=500)

    async with running(users=tuple(f"user{number}" for number in range(100)), gitlab_users=("jane",)) as plugin:
        assert isinstance(await answer(plugin, jane.client()), Accept)

    assert len(forge.asked) < 10


async def test_users_here_and_there_who_cannot_be_had_do_not_keep_others_out(
    forge: Any, running: Running, new_person: NewPerson
) -> None:
    ada = new_person()
    forge.keys = {f"user{number}": [] for number in range(40)} | {"ada": [ada.public]}
    failing = {f"/user{number}.keys" for number in range(0, 40, 8)}
    forge.behave = lambda request: web.Response(status=500) if request.path in failing else None

    async with running(users=tuple(forge.keys)) as plugin:
        assert isinstance(await answer(plugin, ada.client()), Accept)


async def test_a_page_of_members_that_fails_leaves_all_pages_as_they_were(
    forge: Any, running: Running, new_person: NewPerson
) -> None:
    ada, bob = new_person(), new_person()
    forge.keys = {"ada": [ada.public], "bob": [bob.public]}
    forge.groups = {ORG: [[{"login": "ada"}], [{"login": "bob"}]]}

    async with running(organisations=("acme",)) as plugin:
        forge.groups[ORG] = [[{"login": "new"}], [{"login": "ada"}], [{"login": "bob"}]]
        forge.behave = lambda request: web.Response(status=502) if request.query.get("page") == "2" else None
        await another_round(plugin)

        for person in (ada, bob):
            await admitted(plugin, person.client())


async def test_a_new_key_works_at_once_and_strangers_cause_one_round_at_most(
    forge: Any, running: Running, new_person: NewPerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, fresh = new_person(), new_person()
    forge.keys = {"ada": [ada.public]}
    now = [time.monotonic()]
    monkeypatch.setattr(rounds_module, "monotonic", lambda: now[0])

    async with running(users=("ada",)) as plugin:
        now[0] += 61
        forge.keys["ada"].append(fresh.public)
        assert isinstance(await answer(plugin, fresh.client()), Accept)
        assert len(forge.asked) == 2

        for _ in range(20):
            assert isinstance(await answer(plugin, new_person().client()), Reject)
        assert len(forge.asked) == 2


async def test_an_unknown_key_is_passed_on_if_so_set(forge: Any, running: Running, new_person: NewPerson) -> None:
    forge.keys = {"ada": []}

    async with running(users=("ada",), unlisted="pass") as plugin:
        assert await answer(plugin, new_person().client()) is None


async def test_a_restart_during_an_outage_knows_its_clients(
    forge: Any, running: Running, new_person: NewPerson, tmp_path: Path
) -> None:
    ada = new_person()
    forge.keys = {"ada": [ada.public]}
    cache = tmp_path / "cache.json"
    async with running(users=("ada",), cache=str(cache), token="t0ken"):
        pass
    assert "t0ken" not in cache.read_text()
    await forge.go_down()

    async with running(users=("ada",), cache=str(cache)) as plugin:
        await admitted(plugin, ada.client())
    async with running(users=("bob",), cache=str(cache)) as plugin:
        assert isinstance(await answer(plugin, ada.client()), Reject)


async def test_a_cache_that_cannot_be_used_or_kept_is_logged_and_no_obstacle(
    forge: Any, running: Running, new_person: NewPerson, tmp_path: Path
) -> None:
    ada = new_person()
    forge.keys = {"ada": [ada.public]}
    cache = tmp_path / "cache.json"
    cache.mkdir()

    with capture_logs() as logs:
        async with running(users=("ada",), cache=str(cache)) as plugin:
            await admitted(plugin, ada.client())
            await another_round(plugin)

    events = [entry["event"] for entry in logs]
    assert "github-keys.cache-unusable" in events
    assert "github-keys.cache-not-kept" in events


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({}, "nobody is allowed"), ({"users": ("ada",), "max_stale": 60.0}, "max_stale")],
)
async def test_settings_that_make_no_sense_stop_the_start(forge: Any, settings: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        configured(forge, **settings)


def test_tokens_are_secret() -> None:
    secret = {setting.name for setting in GitHubKeys().register_settings() if setting.secret}

    assert secret == {"token", "gitlab_token", "proxy"}


async def test_the_cache_is_json_with_what_was_learnt(
    forge: Any, running: Running, new_person: NewPerson, tmp_path: Path
) -> None:
    ada = new_person()
    forge.keys = {"ada": [ada.public]}
    cache = tmp_path / "cache.json"

    async with running(users=("ada",), cache=str(cache)):
        async with asyncio.timeout(LIMIT):
            while not cache.exists():
                await asyncio.sleep(0.01)

    documents = json.loads(cache.read_text())["documents"]
    assert list(documents) == [f"{forge.url}/ada.keys"]
    assert documents[f"{forge.url}/ada.keys"][1] == [ada.public.split()[1]]
