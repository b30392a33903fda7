"""The plugin's hooks, called as the server calls them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tunnel_server_authorized_keys import AuthorizedKeys

from tunnel_server import Accept, Certificate, Client, ForwardRequest, Reject, Tunnel

NewPerson = Callable[..., Any]
LIMIT = 20.0  # seconds


def configured(path: Path, **settings: object) -> AuthorizedKeys:
    plugin = AuthorizedKeys()
    values = {setting.name: setting.default for setting in plugin.register_settings()}
    plugin.configure(values | {"path": str(path), "interval": 0.05} | settings)
    return plugin


def admitted(plugin: AuthorizedKeys, client: Client, certificate: Certificate | None = None) -> Client:
    answer = plugin.authenticate_client(client, certificate)
    assert isinstance(answer, Accept)
    return replace(client, attributes=answer.attributes)


def tunnel_of(client: Client, name: str, *names: str) -> Tunnel:
    transport: Any = None
    return Tunnel(names[0], ForwardRequest.parse(f"/{name}"), client, transport, 0.0, names[1:])


@contextmanager
def watching(plugin: AuthorizedKeys, server: Any) -> Iterator[None]:
    plugin.startup(server)
    task = asyncio.ensure_future(server.work.pop())
    try:
        yield
    finally:
        task.cancel()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(0.01)


def metric(plugin: AuthorizedKeys, name: str) -> float:
    found: float = next(
        sample.value
        for collector in plugin.register_metrics()
        for family in collector.collect()
        for sample in family.samples
        if sample.name == f"tunnel_server_authorized_keys_{name}"
    )
    return found


def test_a_listed_key_is_accepted_with_where_it_stands_and_when_it_ends(tmp_path: Path, new_person: NewPerson) -> None:
    ada = new_person()
    (tmp_path / "team").write_text("# ours\n" + ada.line('expiry-time="20990101Z"', "ada@desk"))

    answer = configured(tmp_path).authenticate_client(ada.client(), None)

    assert isinstance(answer, Accept)
    assert answer.expires_at == 4070908800
    assert answer.attributes == {"authorized-keys.line": "team:2", "authorized-keys.comment": "ada@desk"}


def test_the_end_of_a_certificate_is_the_end_of_its_client(tmp_path: Path, new_person: NewPerson) -> None:
    authority, ada = new_person(), new_person()
    (tmp_path / "keys").write_text(authority.line('cert-authority,expiry-time="20990101Z"'))
    certificate = Certificate(authority.blob, "ada", 7, ("web",), 0.0, 4_000_000_000.0)

    answer = configured(tmp_path).authenticate_client(ada.client(), certificate)

    assert isinstance(answer, Accept)
    assert answer.expires_at == 4_000_000_000.0


@pytest.mark.parametrize(("unlisted", "kind"), [("refuse", Reject), ("pass", type(None))])
def test_an_unlisted_key_is_refused_or_passed_on(
    tmp_path: Path, new_person: NewPerson, unlisted: str, kind: type
) -> None:
    (tmp_path / "keys").touch()
    plugin = configured(tmp_path, unlisted=unlisted)

    client = new_person().client()

    assert isinstance(plugin.authenticate_client(client, None), kind)
    assert plugin.authorize_tunnel(client, ForwardRequest.parse("/web"), ("web-x",)) is None


def test_a_listed_key_that_does_not_fit_is_refused_even_if_others_are_passed_on(
    tmp_path: Path, new_person: NewPerson
) -> None:
    ada = new_person()
    (tmp_path / "keys").write_text(ada.line('from="10.0.0.0/8"'))

    assert isinstance(configured(tmp_path, unlisted="pass").authenticate_client(ada.client(), None), Reject)


def test_a_path_that_cannot_be_read_stops_the_start_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"path: .*/nothing: No such file"):
        configured(tmp_path / "nothing")


def test_a_refused_line_is_logged_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("\nwhat is this\n")

    with capture_logs() as logs:
        plugin = configured(path)

    assert [(entry["event"], entry.get("at")) for entry in logs] == [
        ("authorized-keys.line-refused", "keys:2"),
        ("authorized-keys.loaded", None),
    ]
    assert metric(plugin, "refused_lines") == 1
    assert metric(plugin, "lines") == 0


async def test_a_key_that_is_removed_is_disconnected_and_others_stay(
    tmp_path: Path, new_person: NewPerson, fake_server: Any
) -> None:
    ada, bob, guest = new_person(), new_person(), new_person()
    path = tmp_path / "keys"
    path.write_text(ada.line() + "\n" + bob.line())
    plugin = configured(path, unlisted="pass")
    clients = [admitted(plugin, ada.client()), admitted(plugin, bob.client()), guest.client()]
    fake_server.live = list(clients)

    with watching(plugin, fake_server):
        path.write_text(bob.line())
        await until(lambda: len(fake_server.live) < 3)

    assert [client.public_key for client in fake_server.live] == [bob.blob, guest.blob]
    assert metric(plugin, "reloads_total") == 1


async def test_a_tunnel_that_is_permitted_no_more_is_closed_and_the_client_stays(
    tmp_path: Path, new_person: NewPerson, fake_server: Any
) -> None:
    ada = new_person()
    path = tmp_path / "keys"
    path.write_text(ada.line())
    plugin = configured(path)
    client = admitted(plugin, ada.client())
    fake_server.live = [client]
    fake_server.open = [tunnel_of(client, "web", "web-x"), tunnel_of(client, "api", "api-x")]

    with watching(plugin, fake_server):
        path.write_text(ada.line('permitlisten="api"'))
        await until(lambda: len(fake_server.open) < 2)

    assert [tunnel.label for tunnel in fake_server.open] == ["api-x"]
    assert fake_server.live == [client]
    refused = plugin.authorize_tunnel(client, ForwardRequest.parse("/web"), ("web-x",))
    assert isinstance(refused, Reject)


async def test_a_time_that_ends_while_nothing_changes_disconnects(
    tmp_path: Path, new_person: NewPerson, fake_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = new_person()
    path = tmp_path / "keys"
    path.write_text(ada.line('expiry-time="20300102Z"'))
    clock = [1893542000.0]
    monkeypatch.setattr("tunnel_server_authorized_keys.policy.time.time", lambda: clock[0])
    plugin = configured(path)
    fake_server.live = [admitted(plugin, ada.client())]

    with watching(plugin, fake_server):
        await until(lambda: fake_server.asked > 0)
        assert fake_server.live
        clock[0] = 1893542400.0
        await until(lambda: not fake_server.live)

    assert metric(plugin, "reloads_total") == 0


async def test_a_client_that_was_logging_in_during_a_change_is_judged_later(
    tmp_path: Path, new_person: NewPerson, fake_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = new_person()
    path = tmp_path / "keys"
    path.write_text(ada.line())
    monkeypatch.setattr("tunnel_server_authorized_keys.policy.AGAIN", 0.2)
    plugin = configured(path)
    client = admitted(plugin, ada.client())

    with watching(plugin, fake_server):
        await until(lambda: fake_server.asked > 0)
        path.write_text("")
        await until(lambda: fake_server.asked > 1)  # the change was applied, and everybody judged
        fake_server.live = [client]
        await until(lambda: not fake_server.live)


async def test_a_file_that_vanishes_leaves_its_keys_and_is_logged_once(
    tmp_path: Path, new_person: NewPerson, fake_server: Any
) -> None:
    ada, bob = new_person(), new_person()
    path = tmp_path / "keys"
    path.write_text(ada.line())
    plugin = configured(path)
    client = admitted(plugin, ada.client())
    fake_server.live = [client]

    with capture_logs() as logs, watching(plugin, fake_server):
        path.unlink()
        await until(lambda: metric(plugin, "reload_failures_total") >= 5)
        assert fake_server.live == [client]
        assert metric(plugin, "unreadable") == 1
        admitted(plugin, ada.client())
        path.write_text(bob.line())
        await until(lambda: not fake_server.live)

    assert [entry["event"] for entry in logs].count("authorized-keys.unreadable") == 1
    assert metric(plugin, "unreadable") == 0


async def test_an_error_while_judging_does_not_end_the_watch(
    tmp_path: Path, new_person: NewPerson, fake_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = new_person(), new_person()
    path = tmp_path / "keys"
    path.write_text(ada.line())
    plugin = configured(path)
    failures: list[int] = []

    def fail() -> list[Client]:
        failures.append(1)
        raise RuntimeError("the server is out of sorts")

    monkeypatch.setattr(fake_server, "clients", fail)

    with watching(plugin, fake_server):
        path.write_text("")
        await until(lambda: bool(failures))
        path.write_text(bob.line())
        await until(lambda: metric(plugin, "lines") == 1)
