"""The file that keeps the counts of the day: a line about it, then one for each key."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tunnel_server_quotas.ledger import MOST, Account

MAX_SIZE = 16 << 20  # octets; what is written has some 130 a key
LINES = 500  # written at a time: a thread that formats all of them at once would keep the others waiting

_FIRST = re.compile(r"quotas 1 ([0-9]{1,9}) ([0-9]{1,20})")
_LINE = re.compile(r"([!-~]{1,200}) ([0-9]{1,20})")


class StateFile:
    """Reads and writes the file; for use by a thread. A file is replaced as a whole, and is its owner's alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = threading.Lock()
        self._written = -1

    def read(self) -> Account | None:
        """Return what was kept, ``None`` if there is no file.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not such a file; nothing may be written over it.
        """
        try:
            with self._path.open("rb") as file:
                octets = file.read(MAX_SIZE + 1)
        except FileNotFoundError:
            return None
        try:
            return _account(octets)
        except ValueError as error:
            raise ValueError(f"{self._path} is not a state file of quotas: {error}") from None

    def write(self, account: Account, number: int) -> None:
        """Keep ``account``, if its ``number`` is above that of what was written: else it is the same, or was overtaken.

        Raises:
            OSError: it cannot be written; what was kept before is still there.
        """
        with self._turn:
            if number <= self._written:
                return
            self._replace(account)
            self._written = number

    def _replace(self, account: Account) -> None:
        new = self._path.with_name(self._path.name + ".new")
        try:
            handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(handle, "wb") as file:
                os.fchmod(handle, 0o600)
                file.writelines(_pieces(account))
                file.flush()
                os.fsync(handle)
            os.replace(new, self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                new.unlink()
            raise


def _pieces(account: Account) -> Iterator[bytes]:
    yield f"quotas 1 {account.day} {account.floor}\n".encode("ascii")
    entries = iter(account.spent.items())
    while piece := list(islice(entries, LINES)):
        yield "".join(f"{thumbprint} {octets}\n" for thumbprint, octets in piece).encode("ascii")


def _account(octets: bytes) -> Account:
    if len(octets) > MAX_SIZE:
        raise ValueError(f"it has more than {MAX_SIZE} octets")
    first, *lines = octets.decode("ascii").splitlines() or [""]
    match = _FIRST.fullmatch(first)
    if match is None:
        raise ValueError("line 1 is not its first line")
    if len(lines) > MOST:
        raise ValueError(f"it has more than {MOST} keys")
    return Account(int(match[1]), int(match[2]), dict(_entry(at, line) for at, line in enumerate(lines, 2)))


def _entry(at: int, line: str) -> tuple[str, int]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"line {at} is not a key and a number")
    return match[1], int(match[2])
