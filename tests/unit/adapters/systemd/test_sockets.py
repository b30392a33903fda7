from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tunnel_server.adapters.systemd.sockets import passed
from tunnel_server.domain.errors import InvalidSocket

FIRST = 700  # where the descriptors of these tests begin: those from 3 on are pytest's
KNOWN = ("http", "ssh")


@pytest.fixture
def pass_on() -> Iterator[Callable[..., dict[str, str]]]:
    """Return what passes sockets or files on as systemd does, and returns the environment that tells of them."""
    given: list[int] = []

    def pass_(names: str, *files: object, **told: str) -> dict[str, str]:
        for fd, file in enumerate(files, FIRST):
            os.dup2(file.fileno(), fd)  # type: ignore[attr-defined]
            file.close()  # type: ignore[attr-defined]
            given.append(fd)
        count = str(len(files))
        return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count, "LISTEN_FDNAMES": names, "LANG": "C"} | told

    yield pass_
    for fd in given:
        with suppress(OSError):
            os.close(fd)


def listening(host: str = "127.0.0.1") -> socket.socket:
    return socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def test_sockets_come_by_name_in_their_order(pass_on: Callable[..., dict[str, str]]) -> None:
    environ = pass_on("http:ssh:http", listening(), listening(), listening("::1"))

    found = passed(environ, KNOWN, FIRST)

    numbers = {name: [sock.fileno() for sock in sockets] for name, sockets in found.items()}
    assert numbers == {"http": [FIRST, FIRST + 2], "ssh": [FIRST + 1]}
    assert [sock.family for sock in found["http"]] == [socket.AF_INET, socket.AF_INET6]
    assert not any(os.get_inheritable(fd) for fd in range(FIRST, FIRST + 3))
    assert environ == {"LANG": "C"}
    for sockets in found.values():
        for sock in sockets:
            sock.close()


@pytest.mark.parametrize("told", [{"LISTEN_PID": "1"}, {"LISTEN_PID": ""}, {"LISTEN_FDS": "0"}])
def test_what_is_for_another_process_is_left_alone(
    pass_on: Callable[..., dict[str, str]], told: dict[str, str]
) -> None:
    environ = pass_on("http", listening(), **told)

    assert passed(environ, KNOWN, FIRST) == {}
    assert environ == {"LANG": "C"}
    os.fstat(FIRST)


def test_without_systemd_there_are_none() -> None:
    assert passed({}, KNOWN) == {}


def unix(folder: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(folder / "unix"))
    sock.listen()
    return sock


@pytest.mark.parametrize(
    ("names", "make", "told", "message"),
    [
        ("https", lambda _: listening(), {}, "descriptor 700, passed as 'https', has no name that is known: http, ssh"),
        ("http", unix, {}, "descriptor 700, passed as 'http', is not of the Internet"),
        ("ssh", lambda _: socket.socket(type=socket.SOCK_DGRAM), {}, "descriptor 700, passed as 'ssh', is not for str"),
        ("ssh", lambda _: socket.socket(), {}, "descriptor 700, passed as 'ssh', does not listen"),
        ("ssh", lambda folder: (folder / "file").open("w"), {}, "descriptor 700, passed as 'ssh', is no socket"),
        ("http:ssh", lambda _: listening(), {"LISTEN_FDS": "2"}, "descriptor 701, passed as 'ssh', is no socket"),
        ("", lambda _: listening(), {"LISTEN_FDS": "2"}, "LISTEN_FDS is '2', and LISTEN_FDNAMES '' has 1"),
        ("http", lambda _: listening(), {"LISTEN_FDS": "many"}, "LISTEN_FDS is 'many'"),
        ("http", lambda _: listening(), {"LISTEN_FDS": "9" * 5000}, "LISTEN_FDNAMES 'http' has 1"),
    ],
)
def test_what_cannot_be_used_is_named(
    pass_on: Callable[..., dict[str, str]],
    tmp_path: Path,
    names: str,
    make: Callable[[Path], object],
    told: dict[str, str],
    message: str,
) -> None:
    environ = pass_on(names, make(tmp_path), **told)

    with pytest.raises(InvalidSocket) as caught:
        passed(environ, KNOWN, FIRST)

    assert message in str(caught.value)
    assert environ == {"LANG": "C"}
