"""Sockets that systemd listens on and passes to the service (sd_listen_fds(3), without its library)."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Collection, MutableMapping

from tunnel_server.domain.errors import InvalidSocket

FIRST = 3  # the first descriptor that is passed; those before are standard input, output and error
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")

Passed = dict[str, tuple[socket.socket, ...]]


def passed(environ: MutableMapping[str, str], known: Collection[str], first: int = FIRST) -> Passed:
    """Return the sockets that were passed to this process, by name; several of a name are in the order they came.

    They are not inherited any further, and what told of them is taken out of ``environ``. The result is empty where
    nothing was passed, or to another process.

    Raises:
        InvalidSocket: one is not named as one of ``known``, or does not listen for TCP connections.
    """
    pid, count, names = (environ.pop(variable, "") for variable in VARIABLES)
    if pid != str(os.getpid()) or count == "0":
        return {}
    found: Passed = {}
    with contextlib.ExitStack() as opened:
        for fd, name in enumerate(_names(count, names), first):
            if name not in known:
                raise InvalidSocket(
                    f"{_called(fd, name)} has no name that is known: {', '.join(known)}; "
                    "set FileDescriptorName= in its socket unit"
                )
            found[name] = (*found.get(name, ()), opened.enter_context(_listening(fd, name)))
        opened.pop_all()
    return found


def _names(count: str, names: str) -> list[str]:
    """Return the name of each socket; names are also what bounds their number."""
    found = names.split(":")
    if count != str(len(found)):
        raise InvalidSocket(
            f"LISTEN_FDS is {count!r}, and LISTEN_FDNAMES {names!r} has {len(found)}: each socket needs one name"
        )
    return found


def _listening(fd: int, name: str) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise InvalidSocket(f"{_called(fd, name)} is no socket: {error.strerror}") from None
    if problem := _problem(sock):
        sock.close()
        raise InvalidSocket(f"{_called(fd, name)} {problem}")
    sock.set_inheritable(False)
    return sock


def _problem(sock: socket.socket) -> str:
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return "is not of the Internet; write a port, or an address and a port, after ListenStream="
    if sock.type != socket.SOCK_STREAM:
        return "is not for streams; ListenStream= makes one that is"
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "does not listen; its socket unit needs Accept=no"
    return ""


def _called(fd: int, name: str) -> str:
    return f"file descriptor {fd}, passed as {name!r},"
